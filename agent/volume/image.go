package volume

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	v1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"
)

// imagePlugin names the folder of image volumes, as kubelet does.
const imagePlugin = "image"

// ErrNotYet is what Request.Image answers while the image is not on the node. Such a volume is left out of the result.
var ErrNotYet = errors.New("the image is not there yet")

// ensureImage has the image shown at a folder of the pod. The folder is made first: it is how Remove knows, after a kill at
// any instruction, that there is something to give back.
func (v *Volumes) ensureImage(ctx context.Context, r Request, vol *v1.Volume) (string, error) {
	if r.Image == nil {
		return "", fmt.Errorf("%w: %s", ErrUnsupported, sourceName(vol))
	}
	dir := v.volumeDir(r.Pod.UID, imagePlugin, vol.Name)
	if err := os.MkdirAll(dir, 0o750); err != nil {
		return "", err
	}
	return dir, r.Image(ctx, vol, dir)
}

// releaseImages gives the pod's views of images back, once they are unmounted.
func (v *Volumes) releaseImages(ctx context.Context, uid types.UID) error {
	if v.release == nil {
		return nil
	}
	if _, err := os.Lstat(filepath.Dir(v.volumeDir(uid, imagePlugin, "x"))); errors.Is(err, os.ErrNotExist) {
		return nil
	}
	return v.release(ctx, uid)
}
