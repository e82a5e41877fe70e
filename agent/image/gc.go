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
	MaxAge time.Duration // an image not used for longer goes even where the disk has room; 0: none does
}

// full says whether the disk is fuller than allowed.
func (t Thresholds) full(d Disk) bool {
	return d.Capacity > 0 && t.High < 100 && (d.Capacity-d.Available)*100 >= d.Capacity*int64(t.High)
}

// wanted is how many bytes are to be freed of a full disk.
func (t Thresholds) wanted(d Disk) int64 {
	return d.Capacity - d.Available - d.Capacity*int64(t.Low)/100
}

// Candidate is one image as the plan sees it.
type Candidate struct {
	ID       string
	Names    []string
	Size     int64
	LastUsed time.Time
	InUse    bool // by a container that exists, running or not
	Pinned   bool // by configuration or label
}

// PlanRemoval picks the images to remove: those that nothing has used for too long, and on a disk above its high threshold the
// least recently used until enough is free. What is in use, pinned or young is kept. short is how many bytes are then still
// missing. PURE.
func PlanRemoval(images []Candidate, disk Disk, t Thresholds, now time.Time) (remove []Candidate, short int64) {
	var missing int64
	if t.full(disk) {
		missing = t.wanted(disk)
	}
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
		idle := now.Sub(c.LastUsed)
		if c.InUse || c.Pinned || idle < t.MinAge {
			continue
		}
		if missing > 0 || t.MaxAge > 0 && idle > t.MaxAge {
			remove = append(remove, c)
			missing -= c.Size
		}
	}
	return remove, max(missing, 0)
}
