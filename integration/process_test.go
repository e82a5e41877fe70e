package integration

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"time"
)

// process is one program of the cluster under test: it can be ended, killed and started again.
type process struct {
	name string
	argv []string
	env  []string
	log  string // file that gets what it prints, over all its runs

	mu   sync.Mutex
	cmd  *exec.Cmd
	done chan struct{} // closed when cmd has been waited for
}

func newProcess(dir, name string, argv ...string) *process {
	return &process{name: name, argv: argv, log: filepath.Join(dir, name+".log")}
}

func (p *process) start() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	out, err := os.OpenFile(p.log, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	defer out.Close()
	cmd := exec.Command(p.argv[0], p.argv[1:]...)
	cmd.Env = append(os.Environ(), p.env...)
	cmd.Stdout, cmd.Stderr = out, out
	// A group of its own, so that an interrupt of the test run does not end it before the clean-up.
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if err := cmd.Start(); err != nil {
		return fmt.Errorf("start %s: %w", p.name, err)
	}
	done := make(chan struct{})
	p.cmd, p.done = cmd, done
	go func() {
		_ = cmd.Wait() // how it ended is read from cmd.ProcessState
		close(done)
	}()
	return nil
}

// kill ends it with SIGKILL, as a crash would, and waits until it is gone.
func (p *process) kill() { p.end(syscall.SIGKILL) }

// stop ends it with SIGTERM, as systemd would.
func (p *process) stop() { p.end(syscall.SIGTERM) }

func (p *process) end(sig syscall.Signal) {
	p.mu.Lock()
	cmd, done := p.cmd, p.done
	p.mu.Unlock()
	if cmd == nil {
		return
	}
	_ = cmd.Process.Signal(sig) // it may have ended already
	select {
	case <-done:
	case <-time.After(slack * 20 * time.Second):
		_ = cmd.Process.Kill()
		<-done
	}
}

// exited tells whether the process has ended by itself or otherwise.
func (p *process) exited() bool {
	select {
	case <-p.done:
		return true
	default:
		return false
	}
}

// wait returns when the process has ended or the time, with its slack, is up.
func (p *process) wait(d time.Duration) error {
	d *= slack
	select {
	case <-p.done:
		return nil
	case <-time.After(d):
		return fmt.Errorf("%s still runs after %s", p.name, d)
	}
}

func (p *process) pid() int { return p.cmd.Process.Pid }

func (p *process) tail(lines int) string {
	b, err := os.ReadFile(p.log)
	if err != nil {
		return err.Error()
	}
	all := strings.Split(strings.TrimRight(string(b), "\n"), "\n")
	return strings.Join(all[max(0, len(all)-lines):], "\n")
}

// commandTime is how long a command may take: one that waits for something with a limit of its own ends before that.
const commandTime = 15 * time.Minute

// output runs a command to its end and returns what it printed on standard output; an error holds standard error too.
func output(env []string, stdin string, argv ...string) (string, error) {
	ctx, cancel := context.WithTimeout(context.Background(), commandTime)
	defer cancel()
	cmd := exec.CommandContext(ctx, argv[0], argv[1:]...)
	cmd.WaitDelay = 10 * time.Second // of what the command has left behind and holds its output open
	cmd.Env = append(os.Environ(), env...)
	cmd.Stdin = strings.NewReader(stdin)
	var out, errs bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errs
	if err := cmd.Run(); err != nil {
		if ctx.Err() != nil {
			return out.String(), fmt.Errorf("%s: killed after %s: %s", strings.Join(argv, " "), commandTime, errs.String())
		}
		var exit *exec.ExitError
		if errors.As(err, &exit) {
			return out.String(), &commandError{argv: argv, code: exit.ExitCode(), stderr: errs.String()}
		}
		return out.String(), fmt.Errorf("run %s: %w", strings.Join(argv, " "), err)
	}
	return out.String(), nil
}

// commandError is a command that ran and failed.
type commandError struct {
	argv   []string
	code   int
	stderr string
}

func (e *commandError) Error() string {
	return fmt.Sprintf("%s: exit code %d: %s", strings.Join(e.argv, " "), e.code, strings.TrimSpace(e.stderr))
}
