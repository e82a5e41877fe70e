package node

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/http"
	"net/http/pprof"
	"os"
	"sort"
	"time"

	v1 "k8s.io/api/core/v1"

	"coracle/agent/session"
	"coracle/internal/version"
)

// Status is what the local socket answers.
type Status struct {
	Version    string        `json:"version"`
	Node       string        `json:"node"`
	PID        int           `json:"pid"`
	Began      time.Time     `json:"began"`
	Connection session.State `json:"connection"`
	Ready      bool          `json:"ready"`
	Problems   []string      `json:"problems,omitempty"`
	Runtime    string        `json:"runtime,omitempty"`
	OCIRuntime string        `json:"ociRuntime,omitempty"`
	Network    string        `json:"network,omitempty"`
	Addresses  []string      `json:"addresses,omitempty"`
	LogWriter  string        `json:"logWriter"` // "running", or why not
	Pods       []PodStatus   `json:"pods"`
	Images     []ImageStatus `json:"images"`
	Pulls      []PullStatus  `json:"pulls,omitempty"`
	Troubles   []Trouble     `json:"troubles,omitempty"`
}

// PodStatus is one pod as the node last reported it.
type PodStatus struct {
	Namespace  string            `json:"namespace"`
	Name       string            `json:"name"`
	UID        string            `json:"uid"`
	Phase      string            `json:"phase"`
	Ready      bool              `json:"ready"`
	IP         string            `json:"ip,omitempty"`
	Restarts   int32             `json:"restarts"`
	Containers map[string]string `json:"containers,omitempty"` // name → state
}

// ImageStatus is one image on the node.
type ImageStatus struct {
	Names []string `json:"names"`
	Size  int64    `json:"size"`
}

// PullStatus is one image that is being pulled.
type PullStatus struct {
	Image string    `json:"image"`
	Began time.Time `json:"began"`
	Bytes int64     `json:"bytes"` // received from the registry
}

// serveStatus answers on the local socket until ctx ends. Only root may ask.
func (n *Node) serveStatus(ctx context.Context) error {
	path := n.cfg.StatusSocket()
	if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("clear %s: %w", path, err)
	}
	listener, err := (&net.ListenConfig{}).Listen(ctx, "unix", path)
	if err != nil {
		return fmt.Errorf("listen for status: %w", err)
	}
	if err := os.Chmod(path, 0o600); err != nil {
		return errors.Join(err, listener.Close())
	}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /status", func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		if err := json.NewEncoder(w).Encode(n.Status(r.Context())); err != nil {
			n.log.Debug("status not sent", "err", err)
		}
	})
	// For a person who looks into the agent's own use of CPU and memory:
	// curl --unix-socket …/agent.sock http://agent/debug/pprof/heap
	mux.HandleFunc("GET /debug/pprof/", pprof.Index)
	mux.HandleFunc("GET /debug/pprof/profile", pprof.Profile)
	mux.HandleFunc("GET /debug/pprof/trace", pprof.Trace)
	server := &http.Server{Handler: mux, ReadHeaderTimeout: 5 * time.Second}
	stop := context.AfterFunc(ctx, func() { _ = server.Close() }) // ends Serve
	defer stop()
	if err := server.Serve(listener); !errors.Is(err, http.ErrServerClosed) {
		return fmt.Errorf("serve status: %w", err)
	}
	return nil
}

// Status gathers what the agent knows of itself.
func (n *Node) Status(ctx context.Context) Status {
	s := Status{
		Version: version.String(), Node: n.name, PID: os.Getpid(), Began: n.began,
		Connection: n.session.State(), Problems: n.report.Problems(), Network: n.cni.Network(),
		Addresses: n.network.Addresses(), LogWriter: "running", Troubles: n.keep.Troubles(),
		Pods: []PodStatus{}, Images: []ImageStatus{},
	}
	s.Ready = len(s.Problems) == 0
	if err := checkLogWriter(ctx, n.cfg.LogSocket()); err != nil {
		s.LogWriter = err.Error()
	}
	if oci, err := n.runtime.OCIRuntime(); err == nil {
		s.OCIRuntime = oci
	}
	var images []v1.ContainerImage
	s.Runtime, images = n.report.Runtime()
	for _, i := range images {
		s.Images = append(s.Images, ImageStatus{Names: i.Names, Size: i.SizeBytes})
	}
	for _, p := range n.images.Pulls() {
		s.Pulls = append(s.Pulls, PullStatus{Image: p.Ref, Began: p.Started, Bytes: p.Bytes})
	}
	for _, p := range n.store.Pods() {
		last, _, _ := n.outbox.Last(p.UID)
		s.Pods = append(s.Pods, podStatus(p, last))
	}
	sort.Slice(s.Pods, func(i, j int) bool {
		a, b := s.Pods[i], s.Pods[j]
		return a.Namespace+"/"+a.Name < b.Namespace+"/"+b.Name
	})
	return s
}

func podStatus(p *v1.Pod, last v1.PodStatus) PodStatus {
	out := PodStatus{
		Namespace: p.Namespace, Name: p.Name, UID: string(p.UID), Phase: string(last.Phase), IP: last.PodIP,
		Containers: map[string]string{},
	}
	for _, c := range last.Conditions {
		if c.Type == v1.PodReady {
			out.Ready = c.Status == v1.ConditionTrue
		}
	}
	for _, c := range last.ContainerStatuses {
		out.Restarts += c.RestartCount
		switch {
		case c.State.Running != nil:
			out.Containers[c.Name] = "running"
		case c.State.Terminated != nil:
			out.Containers[c.Name] = fmt.Sprintf("%s (exit code %d)", c.State.Terminated.Reason, c.State.Terminated.ExitCode)
		case c.State.Waiting != nil:
			out.Containers[c.Name] = c.State.Waiting.Reason
		}
	}
	return out
}

// AskStatus asks a running agent.
func AskStatus(ctx context.Context, socket string) (Status, error) {
	client := http.Client{Transport: &http.Transport{
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return (&net.Dialer{}).DialContext(ctx, "unix", socket)
		},
		DisableKeepAlives: true,
	}}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://agent/status", nil)
	if err != nil {
		return Status{}, err
	}
	resp, err := client.Do(req)
	if err != nil {
		return Status{}, fmt.Errorf("no agent answers at %s (is coracle-agent run running, and are you root?): %w", socket, err)
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return Status{}, fmt.Errorf("the agent at %s answered %s", socket, resp.Status)
	}
	var s Status
	if err := json.NewDecoder(resp.Body).Decode(&s); err != nil {
		return Status{}, fmt.Errorf("read the agent's status: %w", err)
	}
	return s, nil
}

// checkLogWriter says whether the log writer takes connections.
func checkLogWriter(ctx context.Context, socket string) error {
	conn, err := (&net.Dialer{Timeout: time.Second}).DialContext(ctx, "unix", socket)
	if err != nil {
		return fmt.Errorf("not running: %w; start the unit coracle-log-writer, or coracle-agent log-writer", err)
	}
	return conn.Close()
}
