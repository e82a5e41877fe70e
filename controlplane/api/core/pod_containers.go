package core

import (
	"fmt"
	"reflect"
	"strings"
	"unicode"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/sets"
	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"
)

// validateContainers judges the main containers.
func validateContainers(containers []corev1.Container, pc podContext, path *field.Path) field.ErrorList {
	if len(containers) == 0 {
		return field.ErrorList{field.Required(path, "a pod needs at least one container")}
	}
	var errs field.ErrorList
	names, hostPorts := sets.New[string](), sets.New[string]()
	for i := range containers {
		c, at := &containers[i], path.Index(i)
		errs = append(errs, validateContainer(c, pc, at)...)
		if c.Name != "" && names.Has(c.Name) {
			errs = append(errs, field.Duplicate(at.Child("name"), c.Name))
		}
		names.Insert(c.Name)
		errs = append(errs, validateRunning(c, pc, at)...)
		errs = append(errs, validateContainerRestart(c, false, at)...)
		errs = append(errs, validateHostPorts(c.Ports, hostPorts, at.Child("ports"))...)
	}
	return errs
}

// validateContainer holds what is checked of containers of every sort.
func validateContainer(c *corev1.Container, pc podContext, at *field.Path) field.ErrorList {
	var errs field.ErrorList
	if c.Name == "" {
		errs = append(errs, field.Required(at.Child("name"), ""))
	} else {
		errs = append(errs, validateDNSLabel(c.Name, at.Child("name"))...)
	}
	errs = append(errs, required(c.Image, at.Child("image"))...)
	errs = append(errs, oneOf(c.TerminationMessagePolicy, at.Child("terminationMessagePolicy"), corev1.TerminationMessageReadFile, corev1.TerminationMessageFallbackToLogsOnError)...)
	errs = append(errs, validatePorts(c.Ports, at.Child("ports"))...)
	errs = append(errs, validateEnv(c.Env, pc, at.Child("env"))...)
	errs = append(errs, validateEnvFrom(c.EnvFrom, at.Child("envFrom"))...)
	errs = append(errs, validateMounts(c, pc, at.Child("volumeMounts"))...)
	errs = append(errs, validateDevices(c, pc, at.Child("volumeDevices"))...)
	errs = append(errs, validatePullPolicy(c.ImagePullPolicy, at.Child("imagePullPolicy"))...)
	errs = append(errs, validateResources(&c.Resources, pc.claims, at.Child("resources"))...)
	return append(errs, validateSecurityContext(c.SecurityContext, pc, at.Child("securityContext"))...)
}

// validateRunning holds what is checked of containers that run beside others:
// main containers and sidecars.
func validateRunning(c *corev1.Container, pc podContext, at *field.Path) field.ErrorList {
	errs := validateLifecycle(c.Lifecycle, pc, at.Child("lifecycle"))
	errs = append(errs, validateLivenessProbe(c.LivenessProbe, pc, at.Child("livenessProbe"))...)
	errs = append(errs, validateReadinessProbe(c.ReadinessProbe, pc, at.Child("readinessProbe"))...)
	errs = append(errs, validateLivenessProbe(c.StartupProbe, pc, at.Child("startupProbe"))...)
	return append(errs, validateResizePolicy(c.ResizePolicy, pc.restart, at.Child("resizePolicy"))...)
}

func validatePullPolicy(p corev1.PullPolicy, path *field.Path) field.ErrorList {
	return oneOf(p, path, corev1.PullAlways, corev1.PullIfNotPresent, corev1.PullNever)
}

// validateResizePolicy checks what happens to a container whose resources change.
func validateResizePolicy(policies []corev1.ContainerResizePolicy, restart corev1.RestartPolicy, path *field.Path) field.ErrorList {
	var errs field.ErrorList
	seen := map[corev1.ResourceName]bool{}
	for i, p := range policies {
		at := path.Index(i)
		if seen[p.ResourceName] {
			errs = append(errs, field.Duplicate(at, p.ResourceName))
		}
		seen[p.ResourceName] = true
		errs = append(errs, oneOf(p.ResourceName, at, corev1.ResourceCPU, corev1.ResourceMemory)...)
		errs = append(errs, oneOf(p.RestartPolicy, at, corev1.NotRequired, corev1.RestartContainer)...)
		if restart == corev1.RestartPolicyNever && p.RestartPolicy != corev1.NotRequired {
			errs = append(errs, field.Invalid(at, p.RestartPolicy, "must be 'NotRequired' when the pod's restartPolicy is 'Never'"))
		}
	}
	return errs
}

// validateInitContainers judges the init containers, sidecars among them.
func validateInitContainers(inits, mains []corev1.Container, pc podContext, path *field.Path) field.ErrorList {
	var errs field.ErrorList
	names := sets.New[string]()
	for i := range mains {
		names.Insert(mains[i].Name)
	}
	for i := range inits {
		c, at := &inits[i], path.Index(i)
		errs = append(errs, validateContainer(c, pc, at)...)
		if c.Name != "" && names.Has(c.Name) {
			errs = append(errs, field.Duplicate(at.Child("name"), c.Name))
		}
		names.Insert(c.Name)
		// Init containers run one after the other: only ports of the same one clash.
		errs = append(errs, validateHostPorts(c.Ports, sets.New[string](), at.Child("ports"))...)
		errs = append(errs, validateContainerRestart(c, true, at)...)
		if isSidecar(c) {
			errs = append(errs, validateRunning(c, pc, at)...)
			continue
		}
		for _, f := range []struct {
			name string
			set  bool
		}{
			{"lifecycle", c.Lifecycle != nil},
			{"livenessProbe", c.LivenessProbe != nil},
			{"readinessProbe", c.ReadinessProbe != nil},
			{"startupProbe", c.StartupProbe != nil},
		} {
			if f.set {
				errs = append(errs, field.Forbidden(at.Child(f.name), "may not be set for init containers without restartPolicy=Always"))
			}
		}
		if len(c.ResizePolicy) > 0 {
			errs = append(errs, field.Invalid(at.Child("resizePolicy"), c.ResizePolicy, "must not be set for init containers without restartPolicy=Always"))
		}
	}
	return errs
}

// Bounds of restart rules.
const (
	maxRestartRules     = 20
	maxRestartExitCodes = 255
)

// validateContainerRestart checks a container's own restart policy and rules.
func validateContainerRestart(c *corev1.Container, isInit bool, at *field.Path) field.ErrorList {
	var errs field.ErrorList
	policyPath, rulesPath := at.Child("restartPolicy"), at.Child("restartPolicyRules")
	errs = append(errs, oneOfPointer(c.RestartPolicy, policyPath, corev1.ContainerRestartPolicyAlways, corev1.ContainerRestartPolicyNever, corev1.ContainerRestartPolicyOnFailure)...)
	if len(c.RestartPolicyRules) == 0 {
		return errs
	}
	if c.RestartPolicy == nil {
		errs = append(errs, field.Required(policyPath, "must be set where restartPolicyRules are"))
	} else if isInit && isSidecar(c) {
		errs = append(errs, field.Forbidden(rulesPath, "may not be set for init containers with restartPolicy=Always"))
	}
	if n := len(c.RestartPolicyRules); n > maxRestartRules {
		errs = append(errs, field.TooMany(rulesPath, n, maxRestartRules))
	}
	for i := range c.RestartPolicyRules {
		r, at := &c.RestartPolicyRules[i], rulesPath.Index(i)
		errs = append(errs, oneOf(r.Action, at.Child("action"), corev1.ContainerRestartRuleActionRestart, corev1.ContainerRestartRuleActionRestartAllContainers)...)
		if r.ExitCodes == nil {
			errs = append(errs, field.Required(at.Child("exitCodes"), ""))
			continue
		}
		at = at.Child("exitCodes")
		errs = append(errs, oneOf(r.ExitCodes.Operator, at.Child("operator"), corev1.ContainerRestartRuleOnExitCodesOpIn, corev1.ContainerRestartRuleOnExitCodesOpNotIn)...)
		switch n := len(r.ExitCodes.Values); {
		case n == 0:
			errs = append(errs, field.Invalid(at.Child("values"), r.ExitCodes.Values, "must have at least one value"))
		case n > maxRestartExitCodes:
			errs = append(errs, field.TooMany(at.Child("values"), n, maxRestartExitCodes))
		}
	}
	return errs
}

// ephemeralFields are the fields that an ephemeral container may have.
var ephemeralFields = sets.New(
	"Name", "Image", "Command", "Args", "WorkingDir", "EnvFrom", "Env", "VolumeMounts", "VolumeDevices",
	"TerminationMessagePath", "TerminationMessagePolicy", "ImagePullPolicy", "SecurityContext", "Stdin", "StdinOnce", "TTY",
)

// validateEphemeralContainers judges the containers added to a running pod.
func validateEphemeralContainers(spec *corev1.PodSpec, pc podContext, path *field.Path) field.ErrorList {
	var errs field.ErrorList
	others, names := sets.New[string](), sets.New[string]()
	for _, list := range [][]corev1.Container{spec.InitContainers, spec.Containers} {
		for i := range list {
			others.Insert(list[i].Name)
			names.Insert(list[i].Name)
		}
	}
	for i := range spec.EphemeralContainers {
		at, ec := path.Index(i), &spec.EphemeralContainers[i]
		c := corev1.Container(ec.EphemeralContainerCommon)
		errs = append(errs, validateContainer(&c, pc, at)...)
		errs = append(errs, validateImageSpace([]corev1.Container{c}, path)...)
		if c.Name != "" && names.Has(c.Name) {
			errs = append(errs, field.Duplicate(at.Child("name"), c.Name))
		}
		names.Insert(c.Name)
		if t := ec.TargetContainerName; t != "" && !others.Has(t) {
			errs = append(errs, field.NotFound(at.Child("targetContainerName"), t))
		}
		errs = append(errs, forbidOtherFields(ec.EphemeralContainerCommon, ephemeralFields, at)...)
		for j, m := range c.VolumeMounts {
			// A sub path is a bind mount that lives until the pod ends.
			mount := at.Child("volumeMounts").Index(j)
			if m.SubPath != "" {
				errs = append(errs, field.Forbidden(mount.Child("subPath"), "cannot be set for an Ephemeral Container"))
			}
			if m.SubPathExpr != "" {
				errs = append(errs, field.Forbidden(mount.Child("subPathExpr"), "cannot be set for an Ephemeral Container"))
			}
		}
	}
	return errs
}

// forbidOtherFields refuses fields of a struct that are set and not allowed.
func forbidOtherFields(value any, allowed sets.Set[string], at *field.Path) field.ErrorList {
	var errs field.ErrorList
	v := reflect.ValueOf(value)
	for i := range v.NumField() {
		name := v.Type().Field(i).Name
		if allowed.Has(name) || v.Field(i).IsZero() {
			continue
		}
		r := []rune(name)
		r[0] = unicode.ToLower(r[0])
		errs = append(errs, field.Forbidden(at.Child(string(r)), "cannot be set for an Ephemeral Container"))
	}
	return errs
}

func validatePorts(ports []corev1.ContainerPort, path *field.Path) field.ErrorList {
	var errs field.ErrorList
	names := sets.New[string]()
	for i, p := range ports {
		at := path.Index(i)
		if p.Name != "" {
			if msgs := validation.IsValidPortName(p.Name); len(msgs) > 0 {
				errs = append(errs, invalidEach(at.Child("name"), p.Name, msgs)...)
			} else if names.Has(p.Name) {
				errs = append(errs, field.Duplicate(at.Child("name"), p.Name))
			}
			names.Insert(p.Name)
		}
		if p.ContainerPort == 0 {
			errs = append(errs, field.Required(at.Child("containerPort"), ""))
		} else {
			errs = append(errs, invalidEach(at.Child("containerPort"), p.ContainerPort, validation.IsValidPortNum(int(p.ContainerPort)))...)
		}
		if p.HostPort != 0 {
			errs = append(errs, invalidEach(at.Child("hostPort"), p.HostPort, validation.IsValidPortNum(int(p.HostPort)))...)
		}
		errs = append(errs, validateProtocol(p.Protocol, at.Child("protocol"))...)
	}
	return errs
}

func validateProtocol(p corev1.Protocol, path *field.Path) field.ErrorList {
	return oneOf(p, path, corev1.ProtocolTCP, corev1.ProtocolUDP, corev1.ProtocolSCTP)
}

// validateHostPorts refuses host ports that are taken twice. taken collects those
// seen so far.
func validateHostPorts(ports []corev1.ContainerPort, taken sets.Set[string], path *field.Path) field.ErrorList {
	var errs field.ErrorList
	for i, p := range ports {
		if p.HostPort == 0 {
			continue
		}
		key := strings.Join([]string{string(p.Protocol), p.HostIP, fmt.Sprint(p.HostPort)}, "/")
		if taken.Has(key) {
			errs = append(errs, field.Duplicate(path.Index(i).Child("hostPort"), key))
		}
		taken.Insert(key)
	}
	return errs
}
