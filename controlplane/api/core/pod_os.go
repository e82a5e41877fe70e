package core

import (
	"regexp"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/validation/field"
)

// Bounds of Windows user names (domain\user).
const (
	maxGMSASpec      = 64 * 1024
	maxWindowsUser   = 20 * 13
	maxWindowsDomain = 256
)

var (
	controlCharacters = regexp.MustCompile(`[[:cntrl:]]+`)
	windowsDomain     = regexp.MustCompile(`^[^\\/:*?"<>|.][^\\/:*?"<>|]*$`)
	windowsUser       = regexp.MustCompile(`["/\\:;|=,+*?<>@[\]]`)
	dotsOrSpaces      = regexp.MustCompile(`^[. ]+$`)
)

func validateWindowsOptions(o *corev1.WindowsSecurityContextOptions, at *field.Path) field.ErrorList {
	if o == nil {
		return nil
	}
	var errs field.ErrorList
	if n := o.GMSACredentialSpecName; n != nil {
		errs = append(errs, invalidEach(at.Child("gmsaCredentialSpecName"), *n, subdomainName(*n, false))...)
	}
	if s := o.GMSACredentialSpec; s != nil {
		path := at.Child("gmsaCredentialSpec")
		if *s == "" {
			errs = append(errs, field.Invalid(path, *s, "gmsaCredentialSpec cannot be an empty string"))
		} else if len(*s) > maxGMSASpec {
			errs = append(errs, field.Invalid(path, "", "gmsaCredentialSpec must be under 64 KiB"))
		}
	}
	if u := o.RunAsUserName; u != nil {
		errs = append(errs, validateWindowsUser(*u, at.Child("runAsUserName"))...)
	}
	return errs
}

func validateWindowsUser(name string, path *field.Path) field.ErrorList {
	bad := func(why string) field.ErrorList { return field.ErrorList{field.Invalid(path, name, why)} }
	if name == "" {
		return bad("runAsUserName cannot be an empty string")
	}
	if controlCharacters.MatchString(name) {
		return bad("runAsUserName cannot contain control characters")
	}
	domain, user, hasDomain := strings.Cut(name, `\`)
	if !hasDomain {
		domain, user = "", name
	}
	switch {
	case strings.Contains(user, `\`):
		return bad("runAsUserName cannot contain more than one backslash")
	case hasDomain && (domain == "" || len(domain) >= maxWindowsDomain || !windowsDomain.MatchString(domain)):
		return bad("the domain before the backslash must be a NetBios or DNS domain name")
	case user == "" || len(user) > maxWindowsUser:
		return bad("the user name must have between 1 and 260 characters")
	case dotsOrSpaces.MatchString(user) || windowsUser.MatchString(user):
		return bad(`the user name cannot be only dots or spaces, nor contain "/\:;|=,+*?<>@[]`)
	}
	return nil
}

// validateHostProcess checks Windows host process pods: all containers are, or
// none, and all are on the host's network.
func validateHostProcess(spec *corev1.PodSpec, path *field.Path) field.ErrorList {
	podSays := (*bool)(nil)
	if spec.SecurityContext != nil && spec.SecurityContext.WindowsOptions != nil {
		podSays = spec.SecurityContext.WindowsOptions.HostProcess
	}
	var errs field.ErrorList
	on, off := 0, 0
	eachContainer(spec, path, func(c *corev1.Container, at *field.Path) {
		says := podSays
		if c.SecurityContext != nil && c.SecurityContext.WindowsOptions != nil && c.SecurityContext.WindowsOptions.HostProcess != nil {
			says = c.SecurityContext.WindowsOptions.HostProcess
			if podSays != nil && *podSays != *says {
				errs = append(errs, field.Invalid(at.Child("securityContext", "windowsOptions", "hostProcess"), *says, "must be the same as the pod's"))
			}
		}
		if says != nil && *says {
			on++
		} else {
			off++
		}
	})
	if on == 0 {
		return errs
	}
	if off > 0 {
		errs = append(errs, field.Invalid(path, "", "if a pod has a hostProcess container, all its containers must be such"))
	}
	if !spec.HostNetwork {
		errs = append(errs, field.Invalid(path.Child("hostNetwork"), false, "must be true when hostProcess is"))
	}
	return errs
}

// validatePodOS checks the operating system and that nothing of the other one is
// set.
func validatePodOS(spec *corev1.PodSpec, path *field.Path) field.ErrorList {
	if spec.OS == nil {
		return nil
	}
	at := path.Child("os")
	if spec.OS.Name == "" {
		return field.ErrorList{field.Required(at.Child("name"), "cannot be empty")}
	}
	switch spec.OS.Name {
	case corev1.Linux:
		return validateLinux(spec, path)
	case corev1.Windows:
		return validateWindows(spec, path)
	default:
		return field.ErrorList{field.NotSupported(at, spec.OS.Name, []corev1.OSName{corev1.Linux, corev1.Windows})}
	}
}

func validateLinux(spec *corev1.PodSpec, path *field.Path) field.ErrorList {
	var errs field.ErrorList
	if spec.SecurityContext != nil && spec.SecurityContext.WindowsOptions != nil {
		errs = append(errs, field.Forbidden(path.Child("securityContext", "windowsOptions"), "windows options cannot be set for a linux pod"))
	}
	eachContainer(spec, path, func(c *corev1.Container, at *field.Path) {
		if c.SecurityContext != nil && c.SecurityContext.WindowsOptions != nil {
			errs = append(errs, field.Forbidden(at.Child("securityContext", "windowsOptions"), "windows options cannot be set for a linux pod"))
		}
	})
	return errs
}

// validateWindows refuses what only Linux has.
func validateWindows(spec *corev1.PodSpec, path *field.Path) field.ErrorList {
	var errs field.ErrorList
	forbid := func(set bool, at *field.Path) {
		if set {
			errs = append(errs, field.Forbidden(at, "cannot be set for a windows pod"))
		}
	}
	forbid(spec.HostPID, path.Child("hostPID"))
	forbid(spec.HostIPC, path.Child("hostIPC"))
	forbid(spec.HostUsers != nil, path.Child("hostUsers"))
	forbid(spec.ShareProcessNamespace != nil, path.Child("shareProcessNamespace"))
	forbid(spec.Resources != nil, path.Child("resources"))
	if sc := spec.SecurityContext; sc != nil {
		at := path.Child("securityContext")
		forbid(sc.AppArmorProfile != nil, at.Child("appArmorProfile"))
		forbid(sc.SELinuxOptions != nil, at.Child("seLinuxOptions"))
		forbid(sc.SeccompProfile != nil, at.Child("seccompProfile"))
		forbid(sc.FSGroup != nil, at.Child("fsGroup"))
		forbid(sc.FSGroupChangePolicy != nil, at.Child("fsGroupChangePolicy"))
		forbid(len(sc.Sysctls) > 0, at.Child("sysctls"))
		forbid(sc.RunAsUser != nil, at.Child("runAsUser"))
		forbid(sc.RunAsGroup != nil, at.Child("runAsGroup"))
		forbid(sc.SupplementalGroups != nil, at.Child("supplementalGroups"))
		forbid(sc.SupplementalGroupsPolicy != nil, at.Child("supplementalGroupsPolicy"))
		forbid(sc.SELinuxChangePolicy != nil, at.Child("seLinuxChangePolicy"))
	}
	eachContainer(spec, path, func(c *corev1.Container, at *field.Path) {
		sc := c.SecurityContext
		if sc == nil {
			return
		}
		at = at.Child("securityContext")
		forbid(sc.AppArmorProfile != nil, at.Child("appArmorProfile"))
		forbid(sc.SELinuxOptions != nil, at.Child("seLinuxOptions"))
		forbid(sc.SeccompProfile != nil, at.Child("seccompProfile"))
		forbid(sc.Capabilities != nil, at.Child("capabilities"))
		forbid(sc.ReadOnlyRootFilesystem != nil, at.Child("readOnlyRootFilesystem"))
		forbid(sc.Privileged != nil, at.Child("privileged"))
		forbid(sc.AllowPrivilegeEscalation != nil, at.Child("allowPrivilegeEscalation"))
		forbid(sc.ProcMount != nil, at.Child("procMount"))
		forbid(sc.RunAsUser != nil, at.Child("runAsUser"))
		forbid(sc.RunAsGroup != nil, at.Child("runAsGroup"))
	})
	return errs
}
