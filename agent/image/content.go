package image

import (
	"context"
	"encoding/json"
	"fmt"

	"github.com/containerd/containerd/v2/core/content"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

func readConfig(ctx context.Context, store content.Provider, desc ocispec.Descriptor) (ocispec.Image, error) {
	data, err := content.ReadBlob(ctx, store, desc)
	if err != nil {
		return ocispec.Image{}, fmt.Errorf("read configuration: %w", classify(err))
	}
	return parseConfig(data)
}

// parseConfig reads an image configuration, which a registry's user may have written.
func parseConfig(data []byte) (ocispec.Image, error) {
	var config ocispec.Image
	if err := json.Unmarshal(data, &config); err != nil {
		return ocispec.Image{}, fmt.Errorf("parse configuration: %w", err)
	}
	for _, id := range config.RootFS.DiffIDs {
		if err := id.Validate(); err != nil {
			return ocispec.Image{}, fmt.Errorf("parse configuration: layer %q: %w", id, err)
		}
	}
	return config, nil
}
