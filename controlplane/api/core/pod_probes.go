package core

import (
	"fmt"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"
)

// handler is what probes and lifecycle hooks have in common.
type handler struct {
	exec      *corev1.ExecAction
	httpGet   *corev1.HTTPGetAction
	tcpSocket *corev1.TCPSocketAction
	grpc      *corev1.GRPCAction
	sleep     *corev1.SleepAction
}

// validateLivenessProbe judges liveness and startup probes.
func validateLivenessProbe(p *corev1.Probe, pc podContext, path *field.Path) field.ErrorList {
	if p == nil {
		return nil
	}
	errs := validateProbe(p, pc, path)
	if p.SuccessThreshold != 1 {
		errs = append(errs, field.Invalid(path.Child("successThreshold"), p.SuccessThreshold, "must be 1"))
	}
	return errs
}

// validateReadinessProbe judges readiness probes, which never end a container.
func validateReadinessProbe(p *corev1.Probe, pc podContext, path *field.Path) field.ErrorList {
	if p == nil {
		return nil
	}
	errs := validateProbe(p, pc, path)
	if s := p.TerminationGracePeriodSeconds; s != nil {
		errs = append(errs, field.Invalid(path.Child("terminationGracePeriodSeconds"), *s, "must not be set for readinessProbes"))
	}
	return errs
}

func validateProbe(p *corev1.Probe, pc podContext, path *field.Path) field.ErrorList {
	errs := validateHandler(handler{exec: p.Exec, httpGet: p.HTTPGet, tcpSocket: p.TCPSocket, grpc: p.GRPC}, pc, path)
	errs = append(errs, nonNegative(p.InitialDelaySeconds, path.Child("initialDelaySeconds"))...)
	errs = append(errs, nonNegative(p.TimeoutSeconds, path.Child("timeoutSeconds"))...)
	errs = append(errs, nonNegative(p.PeriodSeconds, path.Child("periodSeconds"))...)
	errs = append(errs, nonNegative(p.SuccessThreshold, path.Child("successThreshold"))...)
	errs = append(errs, nonNegative(p.FailureThreshold, path.Child("failureThreshold"))...)
	if s := p.TerminationGracePeriodSeconds; s != nil && *s <= 0 {
		errs = append(errs, field.Invalid(path.Child("terminationGracePeriodSeconds"), *s, "must be greater than 0"))
	}
	return errs
}

func validateLifecycle(l *corev1.Lifecycle, pc podContext, path *field.Path) field.ErrorList {
	if l == nil {
		return nil
	}
	var errs field.ErrorList
	for _, h := range []struct {
		name string
		hook *corev1.LifecycleHandler
	}{{"postStart", l.PostStart}, {"preStop", l.PreStop}} {
		if h.hook != nil {
			errs = append(errs, validateHandler(handler{exec: h.hook.Exec, httpGet: h.hook.HTTPGet, tcpSocket: h.hook.TCPSocket, sleep: h.hook.Sleep}, pc, path.Child(h.name))...)
		}
	}
	if l.StopSignal != nil {
		errs = append(errs, validateStopSignal(*l.StopSignal, pc.os, path.Child("stopSignal"))...)
	}
	return errs
}

// validateStopSignal wants a signal of the pod's operating system, which must be
// named for it.
func validateStopSignal(s corev1.Signal, os corev1.OSName, path *field.Path) field.ErrorList {
	switch os {
	case "":
		return field.ErrorList{field.Forbidden(path, "may not be set for containers with empty `spec.os.name`")}
	case corev1.Windows:
		if s != corev1.SIGTERM && s != corev1.SIGKILL {
			return field.ErrorList{field.NotSupported(path, s, []corev1.Signal{corev1.SIGKILL, corev1.SIGTERM})}
		}
	case corev1.Linux:
		if !slices.Contains(linuxSignals, s) {
			return field.ErrorList{field.NotSupported(path, s, linuxSignals)}
		}
	}
	return nil
}

// linuxSignals are the names that stopSignal may have on Linux.
var linuxSignals = func() []corev1.Signal {
	names := strings.Fields("SIGABRT SIGALRM SIGBUS SIGCHLD SIGCLD SIGCONT SIGFPE SIGHUP SIGILL SIGINT SIGIO SIGIOT SIGKILL " +
		"SIGPIPE SIGPOLL SIGPROF SIGPWR SIGQUIT SIGSEGV SIGSTKFLT SIGSTOP SIGSYS SIGTERM SIGTRAP SIGTSTP SIGTTIN SIGTTOU " +
		"SIGURG SIGUSR1 SIGUSR2 SIGVTALRM SIGWINCH SIGXCPU SIGXFSZ SIGRTMIN SIGRTMAX")
	for i := 1; i <= 15; i++ {
		names = append(names, fmt.Sprintf("SIGRTMIN+%d", i))
	}
	for i := 1; i <= 14; i++ {
		names = append(names, fmt.Sprintf("SIGRTMAX-%d", i))
	}
	signals := make([]corev1.Signal, len(names))
	for i, n := range names {
		signals[i] = corev1.Signal(n)
	}
	return signals
}()

// validateHandler wants exactly one way of acting, and judges it.
func validateHandler(h handler, pc podContext, path *field.Path) field.ErrorList {
	var errs field.ErrorList
	ways := 0
	use := func(set bool, name string, check func(at *field.Path) field.ErrorList) {
		if !set {
			return
		}
		if ways++; ways > 1 {
			errs = append(errs, field.Forbidden(path.Child(name), "may not specify more than 1 handler type"))
			return
		}
		errs = append(errs, check(path.Child(name))...)
	}
	use(h.exec != nil, "exec", func(at *field.Path) field.ErrorList {
		if len(h.exec.Command) == 0 {
			return field.ErrorList{field.Required(at.Child("command"), "")}
		}
		return nil
	})
	use(h.httpGet != nil, "httpGet", func(at *field.Path) field.ErrorList { return validateHTTPGet(h.httpGet, at) })
	use(h.tcpSocket != nil, "tcpSocket", func(at *field.Path) field.ErrorList {
		return validatePortNumberOrName(h.tcpSocket.Port, at.Child("port"))
	})
	use(h.grpc != nil, "grpc", func(at *field.Path) field.ErrorList {
		errs := validatePortNumberOrName(intstr.FromInt32(h.grpc.Port), at.Child("port"))
		return append(errs, oneOfPointer(h.grpc.Mode, at.Child("mode"), corev1.GRPCProbeModePlaintext, corev1.GRPCProbeModeTLS)...)
	})
	use(h.sleep != nil, "sleep", func(at *field.Path) field.ErrorList {
		if s := h.sleep.Seconds; s < 0 || s > pc.grace {
			return field.ErrorList{field.Invalid(at, s, fmt.Sprintf("must be non-negative and not longer than terminationGracePeriodSeconds (%d)", pc.grace))}
		}
		return nil
	})
	if ways == 0 {
		errs = append(errs, field.Required(path, "must specify a handler type"))
	}
	return errs
}

func validateHTTPGet(h *corev1.HTTPGetAction, at *field.Path) field.ErrorList {
	errs := required(h.Path, at.Child("path"))
	errs = append(errs, validatePortNumberOrName(h.Port, at.Child("port"))...)
	if h.Scheme != corev1.URISchemeHTTP && h.Scheme != corev1.URISchemeHTTPS {
		errs = append(errs, field.NotSupported(at.Child("scheme"), h.Scheme, []corev1.URIScheme{corev1.URISchemeHTTP, corev1.URISchemeHTTPS}))
	}
	for _, header := range h.HTTPHeaders {
		errs = append(errs, invalidEach(at.Child("httpHeaders"), header.Name, validation.IsHTTPHeaderName(header.Name))...)
	}
	return errs
}

func validatePortNumberOrName(p intstr.IntOrString, path *field.Path) field.ErrorList {
	if p.Type == intstr.Int {
		return invalidEach(path, p.IntValue(), validation.IsValidPortNum(p.IntValue()))
	}
	return invalidEach(path, p.StrVal, validation.IsValidPortName(p.StrVal))
}
