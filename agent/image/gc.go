package image

import (
	"slices"
	"sort"
	"strings"
	"time"
)

// Disk is the file system that images are stored on, in bytes.
type Disk struct{ Capacity, Available int64 }

// Thresholds say when images are removed; percentages of the disk in use.
type Thresholds struct {
	High   int           // above this images are removed; default 85, 100 or more: never
	Low    int           // until this is reached; default 80
	MinAge time.Duration // an image used or pulled since is kept; default 2 minutes
}

// Candidate is one image as the plan sees it.
type Candidate struct {
	ID       string
	Names    []string
	Size     int64
	LastUsed time.Time
	InUse    bool // by a container that exists, running or not
	Pinned   bool // by configuration
}

// PlanRemoval picks the images to remove: none below the high threshold, else the least recently
// used first until enough is free. short is how many bytes are then still missing. PURE.
func PlanRemoval(images []Candidate, disk Disk, t Thresholds, now time.Time) (remove []Candidate, short int64) {
	if disk.Capacity <= 0 || t.High >= 100 {
		return nil, 0
	}
	used := disk.Capacity - disk.Available
	if used*100 < disk.Capacity*int64(t.High) {
		return nil, 0
	}
	missing := used - disk.Capacity*int64(t.Low)/100
	order := slices.Clone(images)
	sort.Slice(order, func(i, j int) bool {
		a, b := order[i], order[j]
		if !a.LastUsed.Equal(b.LastUsed) {
			return a.LastUsed.Before(b.LastUsed)
		}
		if a.Size != b.Size {
			return a.Size > b.Size
		}
		return strings.Compare(a.ID, b.ID) < 0
	})
	for _, c := range order {
		if missing <= 0 {
			break
		}
		if c.InUse || c.Pinned || now.Sub(c.LastUsed) < t.MinAge {
			continue
		}
		remove = append(remove, c)
		missing -= c.Size
	}
	return remove, max(missing, 0)
}
