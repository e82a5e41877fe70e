package api

import (
	"flag"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	batchv1 "k8s.io/api/batch/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"sigs.k8s.io/yaml"

	"coracle/controlplane/api/batch"
)

var update = flag.Bool("update", false, "rewrite the golden files of this package")

// TestDefaultsGolden: what users write, with the defaults of its kind. Each is also
// a sound object, so its validator finds nothing wrong.
func TestDefaultsGolden(t *testing.T) {
	files, err := filepath.Glob("testdata/defaults/*.yaml")
	if err != nil || len(files) == 0 {
		t.Fatalf("no inputs in testdata/defaults: %v", err)
	}
	for _, file := range files {
		name := strings.TrimSuffix(filepath.Base(file), ".yaml")
		t.Run(name, func(t *testing.T) {
			raw, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			obj, gvk, err := Codecs.UniversalDeserializer().Decode(raw, nil, nil)
			if err != nil {
				t.Fatalf("decode: %v", err)
			}
			Scheme.Default(obj)
			checkSound(t, obj)
			hub, err := runtime.Decode(Codecs.UniversalDecoder(), raw)
			if err != nil {
				t.Fatalf("decode to hub: %v", err)
			}
			if gvk.Group != "events.k8s.io" {
				obj.GetObjectKind().SetGroupVersionKind(hub.GetObjectKind().GroupVersionKind())
				if diff := cmp.Diff(obj, hub); diff != "" {
					t.Fatalf("the decoder gives other defaults than the scheme:\n%s", diff)
				}
			}
			got, err := yaml.Marshal(hub)
			if err != nil {
				t.Fatal(err)
			}
			golden := strings.TrimSuffix(file, ".yaml") + ".golden"
			if *update {
				if err := os.WriteFile(golden, got, 0o644); err != nil {
					t.Fatal(err)
				}
			}
			want, err := os.ReadFile(golden)
			if err != nil {
				t.Fatalf("read golden file (run with -update to write it): %v", err)
			}
			if diff := cmp.Diff(string(want), string(got)); diff != "" {
				t.Fatalf("defaults differ from %s (-want +got):\n%s", golden, diff)
			}
		})
	}
}

// checkSound judges an object that should have nothing wrong.
func checkSound(t *testing.T, obj runtime.Object) {
	t.Helper()
	if j, ok := obj.(*batchv1.Job); ok {
		// What is judged has the selector that the server makes.
		j = j.DeepCopy()
		j.UID = "uid"
		batch.GenerateSelector(j)
		obj = j
	}
	for _, v := range validators {
		if reflect.TypeOf(v.obj) != reflect.TypeOf(obj) {
			continue
		}
		if errs := v.create(obj); len(errs) > 0 {
			t.Errorf("a sound object was refused: %v", errs.ToAggregate())
		}
		return
	}
}
