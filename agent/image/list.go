package image

import (
	"context"
	"errors"
	"fmt"
	"sort"
	"strings"

	"coracle/internal/fault"
)

// Stored is one image with all its names, as the node's status lists it.
type Stored struct {
	Names []string // tags and digests, sorted
	ID    string
	Size  int64
	// Pinned says that a label of one of the records keeps it from collection.
	Pinned bool
}

// pinnedLabel is how containerd's own CRI marks what must stay: ctr images label NAME io.cri-containerd.pinned=pinned.
const pinnedLabel = "io.cri-containerd.pinned"

// List gives the images that containerd holds, largest first. Records whose content is not
// whole are left out.
func (m *Images) List(ctx context.Context) ([]Stored, error) {
	ctx = m.context(ctx)
	records, err := m.client.ImageService().List(ctx)
	if err != nil {
		return nil, fmt.Errorf("list images: %w", classify(err))
	}
	byID := map[string]*Stored{}
	for _, r := range records {
		img, err := m.describe(ctx, r.Target)
		if errors.Is(err, fault.ErrUnavailable) {
			return nil, fmt.Errorf("list images: %w", err)
		}
		if err != nil {
			continue
		}
		s := byID[img.ID]
		if s == nil {
			s = &Stored{ID: img.ID, Size: img.Size}
			byID[img.ID] = s
		}
		s.Pinned = s.Pinned || r.Labels[pinnedLabel] == "pinned"
		s.add(r.Name)
		s.add(repoDigest(r.Name, r.Target.Digest.String()))
	}
	out := make([]Stored, 0, len(byID))
	for _, s := range byID {
		sort.Strings(s.Names)
		out = append(out, *s)
	}
	sort.Slice(out, func(i, j int) bool {
		if out[i].Size != out[j].Size {
			return out[i].Size > out[j].Size
		}
		return strings.Compare(out[i].ID, out[j].ID) < 0
	})
	return out, nil
}

func (s *Stored) add(name string) {
	if name == "" {
		return
	}
	for _, n := range s.Names {
		if n == name {
			return
		}
	}
	s.Names = append(s.Names, name)
}
