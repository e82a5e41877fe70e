package policy

import (
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	rbacv1 "k8s.io/api/rbac/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"pgregory.net/rapid"
)

var update = flag.Bool("update", false, "rewrite golden files")

// render is the policy as a text that a person can review: one line for each rule and subject.
func render(p Policy) string {
	var b strings.Builder
	rules := func(list []rbacv1.PolicyRule) {
		for _, r := range list {
			groups := slices.Clone(r.APIGroups)
			for i, g := range groups {
				if g == "" {
					groups[i] = "core"
				}
			}
			what := strings.Join(groups, ",") + " " + strings.Join(r.Resources, ",")
			if len(r.NonResourceURLs) > 0 {
				what = strings.Join(r.NonResourceURLs, " ")
			}
			if len(r.ResourceNames) > 0 {
				what += " named " + strings.Join(r.ResourceNames, ",")
			}
			fmt.Fprintf(&b, "  %s: %s\n", strings.Join(r.Verbs, ","), what)
		}
	}
	subjects := func(list []rbacv1.Subject) {
		for _, s := range list {
			fmt.Fprintf(&b, "  to %s %s\n", s.Kind, strings.Trim(s.Namespace+"/"+s.Name, "/"))
		}
	}
	for _, r := range p.ClusterRoles {
		fmt.Fprintf(&b, "ClusterRole %s %s\n", r.Name, metav1.FormatLabelSelector(&metav1.LabelSelector{MatchLabels: r.Labels}))
		if r.AggregationRule != nil {
			for _, s := range r.AggregationRule.ClusterRoleSelectors {
				fmt.Fprintf(&b, "  aggregates %s\n", metav1.FormatLabelSelector(&s))
			}
		}
		rules(r.Rules)
	}
	for _, r := range p.ClusterRoleBindings {
		fmt.Fprintf(&b, "ClusterRoleBinding %s of %s\n", r.Name, r.RoleRef.Name)
		subjects(r.Subjects)
	}
	for _, r := range p.Roles {
		fmt.Fprintf(&b, "Role %s/%s\n", r.Namespace, r.Name)
		rules(r.Rules)
	}
	for _, r := range p.RoleBindings {
		fmt.Fprintf(&b, "RoleBinding %s/%s of %s\n", r.Namespace, r.Name, r.RoleRef.Name)
		subjects(r.Subjects)
	}
	return b.String()
}

func TestDefaultIsReviewed(t *testing.T) {
	golden := filepath.Join("testdata", "default.txt")
	got := render(Default())
	if *update {
		if err := os.WriteFile(golden, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(golden)
	if err != nil {
		t.Fatal(err)
	}
	if got != string(want) {
		t.Fatalf("the default policy differs from %s; if that is meant, run with -update and review the difference", golden)
	}
}

func TestDefaultIsConsistent(t *testing.T) {
	p := Default()
	roles := map[string]bool{}
	for _, r := range p.ClusterRoles {
		if roles[r.Name] {
			t.Errorf("clusterrole %s is there twice", r.Name)
		}
		roles[r.Name] = true
		if r.Labels["kubernetes.io/bootstrapping"] != "rbac-defaults" || r.Annotations[rbacv1.AutoUpdateAnnotationKey] != "true" {
			t.Errorf("clusterrole %s is not marked as a default", r.Name)
		}
		for _, rule := range r.Rules {
			if len(rule.Verbs) == 0 || len(rule.NonResourceURLs) == 0 && (len(rule.APIGroups) == 0 || len(rule.Resources) == 0) {
				t.Errorf("clusterrole %s has an empty rule %v", r.Name, rule)
			}
		}
	}
	for _, b := range p.ClusterRoleBindings {
		if !roles[b.RoleRef.Name] {
			t.Errorf("clusterrolebinding %s refers to %s, which there is not", b.Name, b.RoleRef.Name)
		}
	}
	for _, b := range p.RoleBindings {
		if !slices.ContainsFunc(p.Roles, func(r rbacv1.Role) bool { return r.Namespace == b.Namespace && r.Name == b.RoleRef.Name }) {
			t.Errorf("rolebinding %s/%s refers to %s, which there is not", b.Namespace, b.Name, b.RoleRef.Name)
		}
	}
	for _, name := range []string{"cluster-admin", "admin", "edit", "view", "system:discovery", "system:basic-user", "system:public-info-viewer",
		"system:node", "system:node-bootstrapper", "system:auth-delegator", "system:kube-scheduler", "system:controller:generic-garbage-collector"} {
		if !roles[name] {
			t.Errorf("clusterrole %s is missing", name)
		}
	}
}

func TestViewersSeeNoSecrets(t *testing.T) {
	for _, r := range viewRules() {
		for _, resource := range r.Resources {
			if strings.HasPrefix(resource, "secrets") || resource == "*" || strings.Contains(resource, "exec") {
				t.Errorf("view may read %s", resource)
			}
		}
	}
}

func TestRepair(t *testing.T) {
	want := clusterRole("r", on("get list", core, "pods"))
	if RepairClusterRole(want.DeepCopy(), &want) != nil {
		t.Error("a role as it should be is touched")
	}
	less := want.DeepCopy()
	less.Rules, less.Labels = []rbacv1.PolicyRule{on("get", core, "pods"), on("get", core, "nodes")}, map[string]string{"mine": "1"}
	got := RepairClusterRole(less, &want)
	if got == nil || got.Labels["mine"] != "1" || got.Labels[labelDefault] == "" || len(got.Rules) != 3 {
		t.Errorf("repaired to %+v", got)
	}
	if RepairClusterRole(got, &want) != nil {
		t.Error("a second repair finds something to do")
	}
	less.Annotations[rbacv1.AutoUpdateAnnotationKey] = "false"
	if RepairClusterRole(less, &want) != nil {
		t.Error("a role that opted out is touched")
	}
}

func TestRepairBinding(t *testing.T) {
	want := bindCluster("b", "r", group("x"), group("y"))
	less := want.DeepCopy()
	less.Subjects = []rbacv1.Subject{group("z"), group("x")}
	got, recreate := RepairClusterRoleBinding(less, &want)
	if recreate || got == nil || !slices.Equal(got.Subjects, []rbacv1.Subject{group("z"), group("x"), group("y")}) {
		t.Errorf("repaired to %+v, recreate %v", got, recreate)
	}
	other := want.DeepCopy()
	other.RoleRef.Name = "other"
	if _, recreate := RepairClusterRoleBinding(other, &want); !recreate {
		t.Error("a binding of another role must be made anew")
	}
}

func TestAggregateView(t *testing.T) {
	p := Default()
	var roles []*rbacv1.ClusterRole
	byName := map[string]*rbacv1.ClusterRole{}
	for i := range p.ClusterRoles {
		roles = append(roles, &p.ClusterRoles[i])
		byName[p.ClusterRoles[i].Name] = &p.ClusterRoles[i]
	}
	// admin collects edit, edit collects view: three rounds settle all, in any order.
	rounds := 0
	for again := true; again; rounds++ {
		again = false
		for _, r := range roles {
			rules, changed, err := Aggregate(r, roles)
			if err != nil {
				t.Fatal(err)
			}
			if changed {
				r.Rules, again = rules, true
			}
		}
		if rounds > 4 {
			t.Fatal("aggregation does not settle")
		}
	}
	// What it has beside its own is the reader of metrics.
	if n := len(byName["view"].Rules); n != len(viewRules())+1 {
		t.Errorf("view has %d rules, want %d", n, len(viewRules())+1)
	}
	if n, least := len(byName["admin"].Rules), len(viewRules())+len(editRules()); n < least {
		t.Errorf("admin has %d rules, want %d at least", n, least)
	}
}

func TestAggregateProperties(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var roles []*rbacv1.ClusterRole
		for i := range rapid.IntRange(0, 6).Draw(t, "n") {
			r := &rbacv1.ClusterRole{ObjectMeta: metav1.ObjectMeta{Name: fmt.Sprint("r", i)}}
			if rapid.Bool().Draw(t, "labelled") {
				r.Labels = map[string]string{"to": "sum"}
			}
			for range rapid.IntRange(0, 3).Draw(t, "rules") {
				r.Rules = append(r.Rules, on(rapid.SampledFrom([]string{"get", "list"}).Draw(t, "verb"), core, rapid.SampledFrom([]string{"pods", "nodes"}).Draw(t, "of")))
			}
			roles = append(roles, r)
		}
		sum := &rbacv1.ClusterRole{ObjectMeta: metav1.ObjectMeta{Name: "sum", Labels: map[string]string{"to": "sum"}},
			AggregationRule: &rbacv1.AggregationRule{ClusterRoleSelectors: []metav1.LabelSelector{{MatchLabels: map[string]string{"to": "sum"}}}}}
		roles = append(roles, sum)
		rules, _, err := Aggregate(sum, roles)
		if err != nil {
			t.Fatal(err)
		}
		shuffled, _, err := Aggregate(sum, rapid.Permutation(roles).Draw(t, "order"))
		if err != nil || fmt.Sprint(rules) != fmt.Sprint(shuffled) {
			t.Fatalf("the order of roles matters: %v, %v", rules, shuffled)
		}
		sum.Rules = rules
		if _, changed, _ := Aggregate(sum, roles); changed {
			t.Fatal("a second look finds something to do")
		}
	})
}
