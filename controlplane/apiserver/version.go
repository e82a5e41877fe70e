package apiserver

import (
	"runtime"

	apiversion "k8s.io/apimachinery/pkg/version"
	"k8s.io/component-base/compatibility"

	"coracle/internal/version"
)

// KubernetesVersion is the API version served: that of the k8s.io modules in go.mod.
const KubernetesVersion = "v1.37.2"

// effectiveVersion answers /version and decides which features exist.
type effectiveVersion struct {
	compatibility.MutableEffectiveVersion
}

func newEffectiveVersion() effectiveVersion {
	return effectiveVersion{compatibility.NewEffectiveVersionFromString("1.37", "1.31", "1.31")}
}

// Info says the Kubernetes version that clients compare theirs with; the commit is this project's.
func (v effectiveVersion) Info() *apiversion.Info {
	return &apiversion.Info{
		Major: "1", Minor: "37",
		EmulationMajor: "1", EmulationMinor: "37",
		MinCompatibilityMajor: "1", MinCompatibilityMinor: "36",
		GitVersion:   KubernetesVersion,
		GitCommit:    version.Commit,
		GitTreeState: "clean",
		BuildDate:    "1970-01-01T00:00:00Z",
		GoVersion:    runtime.Version(),
		Compiler:     runtime.Compiler,
		Platform:     runtime.GOOS + "/" + runtime.GOARCH,
	}
}
