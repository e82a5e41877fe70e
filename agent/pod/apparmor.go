package pod

import v1 "k8s.io/api/core/v1"

// checkAppArmor turns away pods that name a profile where none can be enforced.
func checkAppArmor(p *v1.Pod, missing bool) *Rejection {
	if !missing || !asksAppArmor(p) {
		return nil
	}
	return &Rejection{Reason: "AppArmor", Message: "Cannot enforce AppArmor: AppArmor is not enabled on the host"}
}

func asksAppArmor(p *v1.Pod) bool {
	asks := func(profile *v1.AppArmorProfile) bool {
		return profile != nil && profile.Type != v1.AppArmorProfileTypeUnconfined
	}
	if sc := p.Spec.SecurityContext; sc != nil && asks(sc.AppArmorProfile) {
		return true
	}
	for _, list := range [][]v1.Container{p.Spec.InitContainers, p.Spec.Containers} {
		for i := range list {
			if sc := list[i].SecurityContext; sc != nil && asks(sc.AppArmorProfile) {
				return true
			}
		}
	}
	return false
}
