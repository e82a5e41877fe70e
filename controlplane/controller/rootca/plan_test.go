package rootca

import (
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

func TestPlan(t *testing.T) {
	ns := &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: "team"}}
	made := MakePlan(ns, nil, []byte("ca"))
	if made == nil || made.Name != "kube-root-ca.crt" || made.Namespace != "team" || made.Data["ca.crt"] != "ca" {
		t.Fatalf("made %+v", made)
	}
	if again := MakePlan(ns, made, []byte("ca")); again != nil {
		t.Errorf("writes again: %+v", again)
	}
	made.ResourceVersion = "7"
	made.Data["ca.crt"], made.Data["more"] = "forged", "x"
	if repaired := MakePlan(ns, made, []byte("ca")); repaired == nil || repaired.Data["ca.crt"] != "ca" || len(repaired.Data) != 1 || repaired.ResourceVersion != "7" {
		t.Errorf("repaired to %+v", repaired)
	}
	ns.DeletionTimestamp = &metav1.Time{}
	if p := MakePlan(ns, nil, []byte("ca")); p != nil {
		t.Errorf("made %+v in a namespace that goes", p)
	}
}
