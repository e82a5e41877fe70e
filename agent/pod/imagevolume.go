package pod

import (
	"slices"

	v1 "k8s.io/api/core/v1"
)

// Image volumes are pulled once in a pod's life on a node, beside the containers' own images, and hold back only the
// containers that mount them. Their troubles show as the container's: ErrImagePull, ImagePullBackOff and so on.

// imageVolume finds the pod's volume of this name if it is an image.
func imageVolume(p *v1.Pod, name string) *v1.ImageVolumeSource {
	for i := range p.Spec.Volumes {
		if v := &p.Spec.Volumes[i]; v.Name == name {
			return v.Image
		}
	}
	return nil
}

// haveVolumeImages says whether every image that the container mounts is present, and has those pulled that are not.
func (p *planner) haveVolumeImages(u *unit) bool {
	have := true
	for _, m := range u.spec.VolumeMounts {
		v := imageVolume(p.pod, m.Name)
		if v == nil || p.o.VolumeImages[m.Name].State == ImagePresent {
			continue
		}
		have = false
		if p.waitsForImage(p.o.VolumeImages[m.Name], v.PullPolicy) || slices.ContainsFunc(p.pulls, func(s Step) bool { return s.(PullImage).Volume == m.Name }) {
			continue
		}
		p.pulls = append(p.pulls, PullImage{Volume: m.Name, Image: v.Reference, Policy: v.PullPolicy})
	}
	return have
}

// volumeHindrance is why an image that the container mounts is not there, or nil.
func (p *planner) volumeHindrance(u *unit) *v1.ContainerStateWaiting {
	for _, m := range u.spec.VolumeMounts {
		if v := imageVolume(p.pod, m.Name); v != nil {
			if w := p.imageHindrance(p.o.VolumeImages[m.Name], v.Reference); w != nil {
				return w
			}
		}
	}
	return nil
}

// showImages adds to the mounts of a container which images they show. What an earlier run of the agent has told is repeated.
func (p *planner) showImages(u *unit, mounts []v1.VolumeMountStatus) {
	for i := range mounts {
		m := &mounts[i]
		if imageVolume(p.pod, m.Name) == nil {
			continue
		}
		if im := p.o.VolumeImages[m.Name]; im.State == ImagePresent && im.ImageID != "" {
			m.VolumeStatus = &v1.VolumeStatus{Image: &v1.ImageVolumeStatus{ImageRef: im.ImageID}}
			continue
		}
		if u.previous == nil {
			continue
		}
		for _, told := range u.previous.VolumeMounts {
			if told.Name == m.Name && told.VolumeStatus != nil {
				m.VolumeStatus = told.VolumeStatus.DeepCopy()
			}
		}
	}
}
