// Command coracle-agent makes a machine a node of a cluster.
//
// This file holds commands and exit codes only: 0 is success, 1 that something failed while
// running, 2 that the command line or the configuration is wrong.
package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"syscall"

	"github.com/spf13/pflag"

	"coracle/internal/version"
)

const usage = `coracle-agent makes this machine a node of a Kubernetes cluster.

Usage:
  coracle-agent run [flags]          run the node (until SIGTERM; containers run on)
  coracle-agent join --server HOST:6444 --token TOKEN --ca-hash sha256:… [flags]
                                     get a certificate for this machine
  coracle-agent check [flags]        say what is missing here and how to mend it
  coracle-agent status [flags]       show the running agent: connection, pods, images, troubles
  coracle-agent log-writer [flags]   write the containers' logs (a process beside the agent)
  coracle-agent reset [flags]        stop every pod and remove what the agent made on this machine
  coracle-agent version

"coracle-agent COMMAND --help" lists a command's flags. Settings are read from
/etc/coracle/agent.yaml where it exists; a flag wins over the file.
`

// usageError is a mistake of the person at the keyboard: exit code 2.
type usageError struct{ error }

func (e usageError) Unwrap() error { return e.error }

func main() {
	os.Exit(run(os.Args[1:]))
}

func run(args []string) int {
	if len(args) == 0 {
		fmt.Fprint(os.Stderr, usage)
		return 2
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	commands := map[string]func(context.Context, []string) error{
		"run": runNode, "join": join, "check": checkMachine, "status": showStatus, "log-writer": writeLogs, "reset": reset,
	}
	var err error
	switch command := commands[args[0]]; {
	case command != nil:
		err = command(ctx, args[1:])
	case args[0] == "version" || args[0] == "--version":
		fmt.Println("coracle-agent", version.String())
	case args[0] == "help" || args[0] == "--help" || args[0] == "-h":
		fmt.Print(usage)
	default:
		err = usageError{fmt.Errorf("%q is not a command; coracle-agent help lists them", args[0])}
	}
	var wrong usageError
	switch {
	case err == nil, errors.Is(err, pflag.ErrHelp):
		return 0
	case errors.As(err, &wrong):
		fmt.Fprintln(os.Stderr, "coracle-agent:", err)
		return 2
	case errors.Is(err, errSaid):
		return 1
	default:
		fmt.Fprintln(os.Stderr, "coracle-agent:", err)
		return 1
	}
}

// errSaid is a failure about which everything has been printed.
var errSaid = errors.New("failed")
