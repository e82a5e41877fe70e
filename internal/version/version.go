// Package version holds what the build stamped into the binaries.
package version

import "fmt"

// Version is the release, such as "v0.1.0"; "dev" in a build without stamps.
var Version = "dev"

// Commit is the abbreviated git commit the binary was built from; empty when unknown.
var Commit string

// Kubernetes is the API version served: that of the k8s.io modules in go.mod.
const Kubernetes = "v1.37.2"

// String is the line that every program's version command prints after its name.
func String() string {
	if Commit == "" {
		return fmt.Sprintf("%s (Kubernetes API %s)", Version, Kubernetes)
	}
	return fmt.Sprintf("%s (commit %s, Kubernetes API %s)", Version, Commit, Kubernetes)
}
