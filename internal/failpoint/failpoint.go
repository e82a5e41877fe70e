// Package failpoint lets a test kill a program at a named place, as a crash or a power cut would.
//
// It does nothing unless the environment variable CORACLE_FAILPOINT names a file when the program
// starts. The first Hit whose name is the file's content removes the file and kills the process
// with SIGKILL; the program started again finds no file and runs through.
package failpoint

import (
	"os"
	"strings"
	"syscall"
)

// Env names the file that arms a failpoint.
const Env = "CORACLE_FAILPOINT"

var file = os.Getenv(Env)

// Hit is called where a crash must do no harm. It is safe for concurrent use and costs nothing when nothing is armed.
func Hit(name string) {
	if file == "" {
		return
	}
	armed, err := os.ReadFile(file)
	if err != nil || strings.TrimSpace(string(armed)) != name {
		return
	}
	if os.Remove(file) != nil {
		return // somebody else hit it first
	}
	_ = syscall.Kill(os.Getpid(), syscall.SIGKILL) // a kill of oneself cannot fail
	select {}
}
