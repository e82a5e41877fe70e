package device

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"net"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"k8s.io/apimachinery/pkg/types"
	api "k8s.io/kubelet/pkg/apis/deviceplugin/v1beta1"

	"coracle/internal/testwait"
)

// memFacts is the node's store in memory.
type memFacts struct {
	mu      sync.Mutex
	values  map[string]map[string][]byte
	refuses error
}

func (m *memFacts) PutFact(bucket, key string, value []byte) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.refuses != nil {
		return m.refuses
	}
	if m.values[bucket] == nil {
		m.values[bucket] = map[string][]byte{}
	}
	m.values[bucket][key] = slices.Clone(value)
	return nil
}

func (m *memFacts) Facts(bucket string) map[string][]byte {
	m.mu.Lock()
	defer m.mu.Unlock()
	return maps.Clone(m.values[bucket])
}

func (m *memFacts) DeleteFact(bucket string, keys ...string) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, k := range keys {
		delete(m.values[bucket], k)
	}
	return nil
}

// fakePlugin speaks the API on a socket of its own.
type fakePlugin struct {
	api.UnimplementedDevicePluginServer
	options *api.DevicePluginOptions
	lists   chan []*api.Device // none is lost: ListAndWatch takes each

	mu        sync.Mutex
	prefers   []string
	refuses   error
	answer    func(devices []string) *api.ContainerAllocateResponse
	allocated []string // "a,b", one for each call
	started   []string
	asked     []string // "available|must|count"

	server *grpc.Server
}

func (f *fakePlugin) GetDevicePluginOptions(context.Context, *api.Empty) (*api.DevicePluginOptions, error) {
	return f.options, nil
}

func (f *fakePlugin) ListAndWatch(_ *api.Empty, out grpc.ServerStreamingServer[api.ListAndWatchResponse]) error {
	for {
		select {
		case list := <-f.lists:
			if err := out.Send(&api.ListAndWatchResponse{Devices: list}); err != nil {
				return err
			}
		case <-out.Context().Done():
			return nil
		}
	}
}

func (f *fakePlugin) GetPreferredAllocation(_ context.Context, r *api.PreferredAllocationRequest) (*api.PreferredAllocationResponse, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	c := r.ContainerRequests[0]
	f.asked = append(f.asked, fmt.Sprintf("%s|%s|%d", strings.Join(c.AvailableDeviceIDs, ","), strings.Join(c.MustIncludeDeviceIDs, ","), c.AllocationSize))
	return &api.PreferredAllocationResponse{ContainerResponses: []*api.ContainerPreferredAllocationResponse{{DeviceIDs: f.prefers}}}, nil
}

func (f *fakePlugin) Allocate(_ context.Context, r *api.AllocateRequest) (*api.AllocateResponse, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.refuses != nil {
		return nil, f.refuses
	}
	devices := r.ContainerRequests[0].DevicesIds
	f.allocated = append(f.allocated, strings.Join(devices, ","))
	answer := &api.ContainerAllocateResponse{Envs: map[string]string{"DEVICES": strings.Join(devices, ",")}}
	if f.answer != nil {
		answer = f.answer(devices)
	}
	return &api.AllocateResponse{ContainerResponses: []*api.ContainerAllocateResponse{answer}}, nil
}

func (f *fakePlugin) PreStartContainer(_ context.Context, r *api.PreStartContainerRequest) (*api.PreStartContainerResponse, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.started = append(f.started, strings.Join(r.DevicesIds, ","))
	return &api.PreStartContainerResponse{}, nil
}

// told reads what the plugin was told.
func (f *fakePlugin) told(what *[]string) []string {
	f.mu.Lock()
	defer f.mu.Unlock()
	return slices.Clone(*what)
}

func (f *fakePlugin) list(states string) {
	var list []*api.Device
	for _, s := range strings.Fields(states) {
		id, sick := strings.CutPrefix(s, "!")
		health := api.Healthy
		if sick {
			health = api.Unhealthy
		}
		list = append(list, &api.Device{ID: id, Health: health})
	}
	f.lists <- list
}

// bench is an agent's devices, and the folder that plugins find them by.
type bench struct {
	*Devices
	dir     string
	facts   *memFacts
	changed chan struct{}
	woken   chan types.UID
	stop    func()
}

func newBench(t *testing.T, dir string, facts *memFacts) *bench {
	t.Helper()
	b := &bench{dir: dir, facts: facts, changed: make(chan struct{}, 100), woken: make(chan types.UID, 100)}
	d, err := New(Config{
		Dir: dir, Facts: facts, Log: slog.New(slog.DiscardHandler),
		Changed: func() { b.changed <- struct{}{} }, Wake: func(uid types.UID) { b.woken <- uid },
	})
	if err != nil {
		t.Fatal(err)
	}
	b.Devices = d
	b.stop = testwait.Run(t, "devices", d.Run)
	testwait.Nil(t, "the registration socket", func() error {
		conn, err := net.Dial("unix", filepath.Join(dir, socketName))
		if err != nil {
			return err
		}
		return conn.Close()
	})
	return b
}

func (b *bench) register(t *testing.T, r *api.RegisterRequest) error {
	t.Helper()
	conn, err := grpc.NewClient("unix://"+filepath.Join(b.dir, socketName), grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	_, err = api.NewRegistrationClient(conn).Register(t.Context(), r, grpc.WaitForReady(true))
	return errors.Join(err, conn.Close())
}

const resourceName = "example.com/dev"

// plugin serves and registers one that offers these devices; sick ones have a "!" before them.
func (b *bench) plugin(t *testing.T, name, devices string, options *api.DevicePluginOptions) *fakePlugin {
	t.Helper()
	f := &fakePlugin{options: options, lists: make(chan []*api.Device, 10), server: grpc.NewServer()}
	if f.options == nil {
		f.options = &api.DevicePluginOptions{}
	}
	listener, err := net.Listen("unix", filepath.Join(b.dir, name))
	if err != nil {
		t.Fatal(err)
	}
	api.RegisterDevicePluginServer(f.server, f)
	ended := make(chan error, 1)
	go func() { ended <- f.server.Serve(listener) }()
	t.Cleanup(func() {
		f.server.Stop()
		if err := testwait.Receive(t, "the plugin's server is to end", ended); err != nil {
			t.Error(err)
		}
	})
	f.list(devices)
	if err := b.register(t, &api.RegisterRequest{Version: api.Version, Endpoint: name, ResourceName: resourceName, Options: f.options}); err != nil {
		t.Fatal(err)
	}
	return f
}
