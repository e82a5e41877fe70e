// Package core holds the defaults and validation of the core API group.
//
// Files named defaults_* fill in what users leave out; the others judge. A pod's
// parts have a file each: pod_volumes.go, pod_probes.go and so on. Functions not
// exported take the path of what they judge and return what is wrong with it,
// nil when nothing is.
package core
