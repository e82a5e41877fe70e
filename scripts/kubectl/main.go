// Command kubectl is the Kubernetes command line, built unmodified from k8s.io/kubectl, so that the first command works on
// a bare machine. Its version comes from component-base's variables, set by the linker (see VERSION in the Makefile).
package main

import (
	"os"

	_ "k8s.io/client-go/plugin/pkg/client/auth" // kubeconfigs may name the oidc provider
	"k8s.io/component-base/cli"
	"k8s.io/kubectl/pkg/cmd"
	"k8s.io/kubectl/pkg/cmd/util"
)

func main() {
	if err := cli.RunNoErrOutput(cmd.NewDefaultKubectlCommand()); err != nil {
		// Prints the message as kubectl words it and exits with its code.
		util.CheckErr(err)
	}
	os.Exit(0)
}
