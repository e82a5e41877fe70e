package metrics

import (
	"context"
	"errors"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	v1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/apis/meta/internalversion"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apiserver/pkg/endpoints/request"
	"k8s.io/apiserver/pkg/registry/rest"
	metricsv1beta1 "k8s.io/metrics/pkg/apis/metrics/v1beta1"

	"coracle/internal/usage"
)

// store holds pods or nodes.
type store struct {
	rest.TableConvertor
	items []runtime.Object
}

func (s *store) NewList() runtime.Object { return nil }

func (s *store) Get(_ context.Context, name string, _ *metav1.GetOptions) (runtime.Object, error) {
	for _, o := range s.items {
		if m, ok := o.(metav1.Object); ok && m.GetName() == name {
			return o, nil
		}
	}
	return nil, apierrors.NewNotFound(v1.Resource("things"), name)
}

func (s *store) List(ctx context.Context, options *internalversion.ListOptions) (runtime.Object, error) {
	pods, nodes := &v1.PodList{}, &v1.NodeList{}
	for _, o := range s.items {
		if m, ok := o.(metav1.Object); ok && options.LabelSelector != nil && !options.LabelSelector.Matches(labels.Set(m.GetLabels())) {
			continue
		}
		switch o := o.(type) {
		case *v1.Pod:
			if namespace := request.NamespaceValue(ctx); namespace == "" || namespace == o.Namespace {
				pods.Items = append(pods.Items, *o)
			}
		case *v1.Node:
			nodes.Items = append(nodes.Items, *o)
		}
	}
	if len(nodes.Items) > 0 {
		return nodes, nil
	}
	return pods, nil
}

func pod(namespace, name, node string, phase v1.PodPhase) *v1.Pod {
	return &v1.Pod{
		ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: name, Labels: map[string]string{"app": name}},
		Spec:       v1.PodSpec{NodeName: node}, Status: v1.PodStatus{Phase: phase},
	}
}

// fleet answers for two nodes, and for a third that does not answer.
type fleet struct {
	mu    sync.Mutex
	asked []string
}

func (f *fleet) usage(_ context.Context, node string) (*usage.Node, error) {
	f.mu.Lock()
	f.asked = append(f.asked, node)
	f.mu.Unlock()
	if node == "away" {
		return nil, errors.New("not connected")
	}
	s := usage.Sample{Time: time.Unix(100, 0), Window: 15 * time.Second, NanoCores: 250e6, WorkingSet: 10<<20 + 5}
	later := s
	later.Time, later.Window = s.Time.Add(time.Second), time.Second
	return &usage.Node{Sample: s, Pods: []usage.Pod{
		{Namespace: "a", Name: "web-" + node, Containers: []usage.Container{{Name: "d", Sample: later}, {Name: "c", Sample: s}}},
		{Namespace: "a", Name: "stranger", Containers: []usage.Container{{Name: "c", Sample: s}}},
	}}, nil
}

func storages() (nodes *nodeREST, pods *podREST, f *fleet) {
	f = &fleet{}
	got := Storage(Config{
		Nodes: &store{items: []runtime.Object{
			&v1.Node{ObjectMeta: metav1.ObjectMeta{Name: "n1", Labels: map[string]string{"zone": "x"}}},
			&v1.Node{ObjectMeta: metav1.ObjectMeta{Name: "n2"}}, &v1.Node{ObjectMeta: metav1.ObjectMeta{Name: "away"}},
		}},
		Pods: &store{items: []runtime.Object{
			pod("a", "web-n1", "n1", v1.PodRunning), pod("a", "web-n2", "n2", v1.PodRunning), pod("a", "web-away", "away", v1.PodRunning),
			pod("a", "new", "", v1.PodPending), pod("a", "done", "n1", v1.PodSucceeded), pod("b", "web-n1", "n1", v1.PodRunning),
		}},
		Usage: f.usage,
	})
	nodes, _ = got["nodes"].(*nodeREST)
	pods, _ = got["pods"].(*podREST)
	return nodes, pods, f
}

func listPods(t *testing.T, r *podREST, namespace string, selector labels.Selector) []string {
	t.Helper()
	obj, err := r.List(request.WithNamespace(t.Context(), namespace), &internalversion.ListOptions{LabelSelector: selector})
	if err != nil {
		t.Fatal(err)
	}
	list, ok := obj.(*metricsv1beta1.PodMetricsList)
	if !ok {
		t.Fatalf("listed as %T", obj)
	}
	var out []string
	for i := range list.Items {
		out = append(out, list.Items[i].Namespace+"/"+list.Items[i].Name)
	}
	return out
}

func TestPods(t *testing.T) {
	_, pods, f := storages()
	if got := listPods(t, pods, "", nil); !slices.Equal(got, []string{"a/web-n1", "a/web-n2"}) {
		t.Errorf("all: %v", got)
	}
	if got := listPods(t, pods, "a", labels.SelectorFromSet(labels.Set{"app": "web-n2"})); !slices.Equal(got, []string{"a/web-n2"}) {
		t.Errorf("selected: %v", got)
	}
	if got := listPods(t, pods, "b", nil); len(got) != 0 {
		t.Errorf("another namespace: %v", got)
	}
	slices.Sort(f.asked)
	if !slices.Equal(f.asked, []string{"away", "n1", "n2"}) {
		t.Errorf("asked %v, want each node once", f.asked)
	}
	obj, err := pods.Get(request.WithNamespace(t.Context(), "a"), "web-n1", nil)
	if err != nil {
		t.Fatal(err)
	}
	m, ok := obj.(*metricsv1beta1.PodMetrics)
	if !ok || m.Namespace != "a" || m.Labels["app"] != "web-n1" || m.Window.Duration != 15*time.Second || m.Timestamp.Unix() != 100 || len(m.Containers) != 2 {
		t.Fatalf("got %+v", obj)
	}
	if c := m.Containers[1]; c.Name != "c" || c.Usage.Cpu().String() != "250m" || c.Usage.Memory().String() != "10Mi" {
		t.Errorf("container %+v", c)
	}
	for _, name := range []string{"none", "done", "new", "web-away"} {
		if _, err := pods.Get(request.WithNamespace(t.Context(), "a"), name, nil); !apierrors.IsNotFound(err) {
			t.Errorf("%s: %v, want not found", name, err)
		}
	}
}

func TestNodes(t *testing.T) {
	nodes, _, _ := storages()
	obj, err := nodes.List(t.Context(), nil)
	if err != nil {
		t.Fatal(err)
	}
	list, ok := obj.(*metricsv1beta1.NodeMetricsList)
	if !ok || len(list.Items) != 2 || list.Items[0].Name != "n1" || list.Items[0].Labels["zone"] != "x" || list.Items[0].Usage.Cpu().MilliValue() != 250 {
		t.Errorf("got %+v", obj)
	}
	if _, err := nodes.Get(t.Context(), "n2", nil); err != nil {
		t.Error(err)
	}
	for _, name := range []string{"none", "away"} {
		if _, err := nodes.Get(t.Context(), name, nil); !apierrors.IsNotFound(err) {
			t.Errorf("%s: %v, want not found", name, err)
		}
	}
}

// Many askers at once cost a node one question, and an answer is not given for ever.
func TestNodeIsAskedOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		asked := 0
		a := &asker{now: time.Now, asked: map[string]*answer{}, ask: func(context.Context, string) (*usage.Node, error) {
			asked++
			time.Sleep(time.Second)
			return &usage.Node{Sample: usage.Sample{Window: time.Second}}, nil
		}}
		gone, cancel := context.WithCancel(t.Context())
		var wait sync.WaitGroup
		for i := range 10 {
			ctx := t.Context()
			if i == 0 {
				ctx = gone // its end is not the others'
			}
			wait.Go(func() { a.all(ctx, []string{"n"}) })
		}
		synctest.Wait()
		cancel()
		wait.Wait()
		if got := a.all(t.Context(), []string{"n"}); asked != 1 || got["n"] == nil {
			t.Errorf("asked %d times, got %v", asked, got)
		}
		time.Sleep(answerFor + time.Second)
		a.all(t.Context(), []string{"n"})
		if asked != 2 {
			t.Errorf("asked %d times after a while, want 2", asked)
		}
	})
}
