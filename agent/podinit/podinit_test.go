package podinit

import (
	"bytes"
	"debug/elf"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"testing"

	"coracle/internal/testwait"
)

func TestBinaryIsELF(t *testing.T) {
	for arch, machine := range map[string]elf.Machine{"amd64": elf.EM_X86_64, "arm64": elf.EM_AARCH64, "arm": elf.EM_ARM} {
		data, err := Binary(arch)
		if err != nil {
			t.Fatal(err)
		}
		f, err := elf.NewFile(bytes.NewReader(data))
		if err != nil {
			t.Fatalf("%s: %v", arch, err)
		}
		if f.Machine != machine || f.Type != elf.ET_EXEC || len(f.Progs) != 1 {
			t.Errorf("%s: machine %v, type %v, %d segments", arch, f.Machine, f.Type, len(f.Progs))
		}
		if p := f.Progs[0]; f.Entry < p.Vaddr || f.Entry >= p.Vaddr+p.Filesz || p.Filesz != uint64(len(data)) {
			t.Errorf("%s: entry %#x outside the segment of %d bytes (file %d)", arch, f.Entry, p.Filesz, len(data))
		}
	}
	if _, err := Binary("z80"); err == nil {
		t.Error("an unknown architecture got a program")
	}
}

// The program for this machine reaps orphans and survives SIGTERM as the first process of a namespace.
func TestFirstProcessReaps(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("needs root to make a process namespace")
	}
	data, err := Binary(runtime.GOARCH)
	if err != nil {
		t.Skip(err)
	}
	path := filepath.Join(t.TempDir(), "init")
	if err := os.WriteFile(path, data, 0o755); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(path)
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWPID, Pdeathsig: syscall.SIGKILL}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() { _ = cmd.Process.Kill(); _ = cmd.Wait() }()
	nsenter, err := exec.LookPath("nsenter")
	if err != nil {
		t.Skip("nsenter is not installed")
	}
	// A shell in the namespace leaves an orphan that ends later: it must not stay as a zombie.
	marker := fmt.Sprintf("0.2%d", os.Getpid())
	out, err := exec.Command(nsenter, fmt.Sprintf("--pid=/proc/%d/ns/pid", cmd.Process.Pid), "--", "sh", "-c", "sleep "+marker+" & exit 0").CombinedOutput()
	if err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	if err := cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	testwait.Nil(t, "the orphan is reaped and the first process sleeps", func() error {
		if left := children(t, cmd.Process.Pid); len(left) > 0 {
			return fmt.Errorf("children %v", left)
		}
		if state := status(cmd.Process.Pid); state != "S" {
			return fmt.Errorf("state of the first process is %q", state)
		}
		return nil
	})
}

func children(t *testing.T, pid int) []string {
	t.Helper()
	data, err := os.ReadFile(fmt.Sprintf("/proc/%d/task/%d/children", pid, pid))
	if err != nil {
		t.Skip("the kernel does not list children")
	}
	return strings.Fields(string(data))
}

func status(pid int) string {
	data, _ := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	_, rest, _ := strings.Cut(string(data), ") ")
	state, _, _ := strings.Cut(rest, " ")
	return state
}
