package service

import (
	"errors"
	"fmt"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/validation/field"
)

// portPlan is what an assignment decided: the service's new node ports, in the order of its ports, and its health port.
type portPlan struct {
	nodePorts  []int32
	healthPort int32
	// claimed are the numbers that were free before.
	claimed []int32
}

func (p portPlan) apply(s *corev1.Service) {
	for i := range p.nodePorts {
		s.Spec.Ports[i].NodePort = p.nodePorts[i]
	}
	s.Spec.HealthCheckNodePort = p.healthPort
}

// assignPorts decides the node ports of a service and marks them in b. What old holds is the service's already; old is nil
// on create. One number serves several protocols of one service. random returns a number in [0, n).
func assignPorts(b bitmap, r PortRange, s, old *corev1.Service, random func(int) int) (portPlan, field.ErrorList) {
	plan := portPlan{healthPort: s.Spec.HealthCheckNodePort}
	for _, p := range s.Spec.Ports {
		plan.nodePorts = append(plan.nodePorts, p.NodePort)
	}
	mine := heldPorts(old)
	var errs field.ErrorList
	take := func(at *field.Path, port int32) {
		if err := claimPort(b, r, port, mine); err != nil {
			errs = append(errs, field.Invalid(at, port, err.Error()))
			return
		}
		if !mine[port] {
			plan.claimed = append(plan.claimed, port)
			mine[port] = true
		}
	}
	give := func(at *field.Path) int32 {
		bit, err := b.next(r.size(), r.static(), random)
		if err != nil {
			errs = append(errs, field.InternalError(at, fmt.Errorf("failed to allocate a nodePort: %w", err)))
			return 0
		}
		b.set(bit)
		port := int32(r.First + bit) //nolint:gosec // a port fits
		plan.claimed = append(plan.claimed, port)
		mine[port] = true
		return port
	}
	at := field.NewPath("spec", "ports")
	if mayHaveNodePorts(s) {
		// Ports the client chose come first, so that none of them is given away to a neighbour.
		byPort := map[int32]int32{}
		for i, port := range plan.nodePorts {
			if port != 0 {
				take(at.Index(i).Child("nodePort"), port)
				byPort[s.Spec.Ports[i].Port] = port
			}
		}
		for i := range plan.nodePorts {
			if plan.nodePorts[i] != 0 || !wantsNodePorts(s) || len(errs) > 0 {
				continue
			}
			// The same port over another protocol gets the same number, unless that protocol has it already.
			if port, ok := byPort[s.Spec.Ports[i].Port]; ok && !usedBy(s, plan.nodePorts, s.Spec.Ports[i].Protocol, port) {
				plan.nodePorts[i] = port
				continue
			}
			plan.nodePorts[i] = give(at.Index(i).Child("nodePort"))
			byPort[s.Spec.Ports[i].Port] = plan.nodePorts[i]
		}
	}
	if wantsHealthPort(s) && len(errs) == 0 {
		health := field.NewPath("spec", "healthCheckNodePort")
		if plan.healthPort != 0 {
			take(health, plan.healthPort)
		} else {
			plan.healthPort = give(health)
		}
	}
	return plan, errs
}

func usedBy(s *corev1.Service, nodePorts []int32, protocol corev1.Protocol, port int32) bool {
	for i, p := range s.Spec.Ports {
		if p.Protocol == protocol && nodePorts[i] == port {
			return true
		}
	}
	return false
}

func claimPort(b bitmap, r PortRange, port int32, mine map[int32]bool) error {
	if mine[port] {
		return nil
	}
	bit := int(port) - r.First
	if bit < 0 || bit >= r.size() {
		return fmt.Errorf("provided port is not in the valid range. The range of valid ports is %s", r)
	}
	if b.has(bit) {
		return errors.New("provided port is already allocated")
	}
	b.set(bit)
	return nil
}

// heldPorts are the numbers that a stored service holds; none for nil.
func heldPorts(s *corev1.Service) map[int32]bool {
	held := map[int32]bool{}
	if s == nil {
		return held
	}
	for _, p := range s.Spec.Ports {
		if p.NodePort != 0 {
			held[p.NodePort] = true
		}
	}
	if s.Spec.HealthCheckNodePort != 0 {
		held[s.Spec.HealthCheckNodePort] = true
	}
	return held
}
