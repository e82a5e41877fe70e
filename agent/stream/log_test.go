package stream

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	v1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/ptr"
	"pgregory.net/rapid"

	"coracle/internal/testwait"
	nodev1 "coracle/proto/node/v1"
)

var began = time.Date(2026, 1, 2, 3, 4, 5, 6, time.UTC)

// entry is a line of a log file, i seconds after the beginning.
func entry(i int, stream, tag, text string) string {
	return fmt.Sprintf("%s %s %s %s\n", began.Add(time.Duration(i)*time.Second).Format("2006-01-02T15:04:05.000000000Z07:00"), stream, tag, text)
}

// logDir makes the folder of the test pod's container.
func logDir(t interface {
	Helper()
	Fatal(...any)
}, root string) string {
	t.Helper()
	dir := filepath.Join(root, "default_web_"+testUID, "c")
	if err := os.MkdirAll(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	return dir
}

func write(t interface{ Fatal(...any) }, path, text string) {
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

func logRequest(opts v1.PodLogOptions) *nodev1.StreamRequest {
	data, err := opts.Marshal()
	if err != nil {
		panic(err)
	}
	return &nodev1.StreamRequest{Request: &nodev1.StreamRequest_Logs{Logs: &nodev1.Logs{PodUid: testUID, Container: "c", Options: data}}}
}

func readLog(t *testing.T, w *world, root string, opts v1.PodLogOptions) (string, *nodev1.Result) {
	t.Helper()
	u := newUser()
	w.server(root).Serve(t.Context(), logRequest(opts), u)
	close(u.says)
	return u.text(nodev1.Frame_STDOUT), u.result
}

func TestLogOptions(t *testing.T) {
	root := t.TempDir()
	dir := logDir(t, root)
	write(t, dir+"/0.log.20260102-030405.000000000", entry(0, "stdout", "F", "zero")+entry(1, "stderr", "F", "one"))
	write(t, dir+"/0.log", entry(2, "stdout", "P", "tw")+entry(2, "stderr", "F", "between")+entry(3, "stdout", "F", "o")+"rubbish\n"+entry(4, "stdout", "F", "")+entry(5, "stdout", "F", "five"))
	write(t, dir+"/1.log", entry(9, "stdout", "F", "another attempt"))
	for name, tc := range map[string]struct {
		opts v1.PodLogOptions
		want string
	}{
		"all":         {v1.PodLogOptions{}, "zero\none\ntwbetween\no\n\nfive\n"},
		"stdout":      {v1.PodLogOptions{Stream: ptr.To("Stdout")}, "zero\ntwo\n\nfive\n"},
		"stderr":      {v1.PodLogOptions{Stream: ptr.To("Stderr")}, "one\nbetween\n"},
		"tail 1":      {v1.PodLogOptions{TailLines: ptr.To[int64](1)}, "five\n"},
		"tail 2":      {v1.PodLogOptions{TailLines: ptr.To[int64](2)}, "\nfive\n"},
		"tail 0":      {v1.PodLogOptions{TailLines: ptr.To[int64](0)}, ""},
		"tail 5":      {v1.PodLogOptions{TailLines: ptr.To[int64](5)}, "one\ntwbetween\no\n\nfive\n"},
		"tail many":   {v1.PodLogOptions{TailLines: ptr.To[int64](100)}, "zero\none\ntwbetween\no\n\nfive\n"},
		"since":       {v1.PodLogOptions{SinceTime: ptr.To(metav1.NewTime(began.Add(4 * time.Second)))}, "\nfive\n"},
		"limit":       {v1.PodLogOptions{LimitBytes: ptr.To[int64](7)}, "zero\non"},
		"limit exact": {v1.PodLogOptions{LimitBytes: ptr.To[int64](5)}, "zero\n"},
		"timestamps": {v1.PodLogOptions{Timestamps: true, TailLines: ptr.To[int64](1)},
			began.Add(5*time.Second).Format("2006-01-02T15:04:05.000000000Z07:00") + " five\n"},
	} {
		t.Run(name, func(t *testing.T) {
			got, result := readLog(t, newWorld(), root, tc.opts)
			if got != tc.want || result.GetError() != "" {
				t.Errorf("got %q (%v), want %q", got, result, tc.want)
			}
		})
	}
}

func TestWhichAttempt(t *testing.T) {
	root := t.TempDir()
	dir := logDir(t, root)
	for i := range 3 {
		write(t, fmt.Sprintf("%s/%d.log", dir, i), entry(0, "stdout", "F", fmt.Sprint("attempt ", i)))
	}
	ended := v1.ContainerState{Terminated: &v1.ContainerStateTerminated{ContainerID: "containerd://01-c-1"}}
	crashed := statusWith("01-c-1", v1.ContainerState{Waiting: &v1.ContainerStateWaiting{Reason: "CrashLoopBackOff"}})
	crashed.ContainerStatuses[0].LastTerminationState = ended
	again := statusWith("01-c-2", v1.ContainerState{Running: &v1.ContainerStateRunning{}})
	again.ContainerStatuses[0].LastTerminationState = ended
	pulling := func(reason string) v1.PodStatus {
		return statusWith("", v1.ContainerState{Waiting: &v1.ContainerStateWaiting{Reason: reason}})
	}
	for name, tc := range map[string]struct {
		status   v1.PodStatus
		previous bool
		want     string // of the log, or of the error
	}{
		"running":                 {again, false, "attempt 2\n"},
		"running, previous":       {again, true, "attempt 1\n"},
		"crash loop":              {crashed, false, "attempt 1\n"},
		"crash loop, previous":    {crashed, true, "attempt 1\n"},
		"first attempt, previous": {newWorld().status, true, `previous terminated container "c" in pod "web" not found`},
		"creating":                {pulling("ContainerCreating"), false, `container "c" in pod "web" is waiting to start: ContainerCreating`},
		"pull failed":             {pulling("ErrImagePull"), false, `container "c" in pod "web" is waiting to start: image can't be pulled`},
		"pull backs off":          {pulling("ImagePullBackOff"), false, `container "c" in pod "web" is waiting to start: trying and failing to pull image`},
		"status lost":             {v1.PodStatus{}, false, "attempt 2\n"},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld()
			w.set(tc.status)
			got, result := readLog(t, w, root, v1.PodLogOptions{Previous: tc.previous})
			if got+result.GetError() != tc.want || result.GetError() != "" && result.GetReason() != nodev1.Result_INVALID {
				t.Errorf("got %q, %v, want %q", got, result, tc.want)
			}
		})
	}
}

// Following goes on over rotations, loses and repeats nothing, and ends with the container.
func TestFollowAcrossRotations(t *testing.T) {
	root := t.TempDir()
	dir := logDir(t, root)
	path := dir + "/0.log"
	w, u := newWorld(), newUser()
	write(t, path, entry(0, "stdout", "F", "line 0"))
	var wg sync.WaitGroup
	wg.Go(func() { w.server(root).Serve(t.Context(), logRequest(v1.PodLogOptions{Follow: true}), u) })
	want := "line 0\n"
	u.until(t, "first line", func() bool { return u.text(nodev1.Frame_STDOUT) == want })
	f, err := os.OpenFile(path, os.O_APPEND|os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	for i := 1; i <= 300; i++ {
		line := entry(i, "stdout", "F", fmt.Sprint("line ", i))
		want += fmt.Sprintf("line %d\n", i)
		// In two pieces, as a writer may be seen in the middle of a line.
		for _, piece := range []string{line[:20], line[20:]} {
			if _, err := f.WriteString(piece); err != nil {
				t.Fatal(err)
			}
		}
		if i%5 == 0 {
			_ = f.Close()
			if err := os.Rename(path, fmt.Sprintf("%s.20260102-030405.%09d", path, i)); err != nil {
				t.Fatal(err)
			}
			if f, err = os.OpenFile(path, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600); err != nil {
				t.Fatal(err)
			}
		}
	}
	u.until(t, "all lines", func() bool { return len(u.text(nodev1.Frame_STDOUT)) >= len(want) })
	if got := u.text(nodev1.Frame_STDOUT); got != want {
		t.Errorf("lines lost or repeated: got %d bytes, want %d; ends %q", len(got), len(want), got[max(0, len(got)-60):])
	}
	if u.result != nil {
		t.Error("ended while the container runs")
	}
	// The last words are on their way when the follower sees that the container has ended.
	w.mu.Lock()
	w.status = statusWith("01-c-0", v1.ContainerState{Terminated: &v1.ContainerStateTerminated{}})
	w.onLast = sync.OnceFunc(func() {
		if _, err := f.WriteString(entry(999, "stdout", "F", "last words")); err != nil {
			t.Error(err)
		}
		_ = f.Close()
	})
	w.mu.Unlock()
	testwait.End(t, "following", wg.Wait)
	close(u.says)
	if got := u.text(nodev1.Frame_STDOUT); !strings.HasSuffix(got, "last words\n") || u.result.GetError() != "" {
		t.Errorf("the end is %q, %v", got[len(got)-30:], u.result)
	}
}

func TestFollowEndsWhenTheUserHasGone(t *testing.T) {
	root := t.TempDir()
	write(t, logDir(t, root)+"/0.log", entry(0, "stdout", "F", "x"))
	w, u := newWorld(), newUser()
	close(u.says)
	w.server(root).Serve(t.Context(), logRequest(v1.PodLogOptions{Follow: true}), u) // returns
}

// The tail of a log, however it is cut into files and partial entries, is the end of the whole.
func TestTailIsTheEndOfTheWhole(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		root, err := os.MkdirTemp("", "log-")
		if err != nil {
			rt.Fatal(err)
		}
		defer os.RemoveAll(root)
		dir := logDir(rt, root)
		n := rapid.IntRange(0, 60).Draw(rt, "lines")
		var entries []string
		var lines []string
		for i := range n {
			text := strings.Repeat(string(rune('a'+i%26)), rapid.SampledFrom([]int{0, 1, 80, 5000, 17000}).Draw(rt, "length"))
			lines = append(lines, text+"\n")
			for len(text) > 4000 && rapid.Bool().Draw(rt, "cut") {
				entries = append(entries, entry(i, "stdout", "P", text[:4000]))
				text = text[4000:]
			}
			entries = append(entries, entry(i, "stdout", "F", text))
		}
		files := rapid.IntRange(1, 4).Draw(rt, "files")
		for i := range files {
			from, to := len(entries)*i/files, len(entries)*(i+1)/files
			name := fmt.Sprintf("%s/0.log.2026%04d", dir, i)
			if i == files-1 {
				name = dir + "/0.log"
			}
			write(rt, name, strings.Join(entries[from:to], ""))
		}
		tail := rapid.IntRange(0, n+2).Draw(rt, "tail")
		u := newUser()
		newWorld().server(root).Serve(t.Context(), logRequest(v1.PodLogOptions{TailLines: ptr.To(int64(tail))}), u)
		close(u.says)
		want := strings.Join(lines[max(0, n-tail):], "")
		if got := u.text(nodev1.Frame_STDOUT); got != want {
			rt.Fatalf("tail %d of %d lines in %d files: got %d bytes, want %d (%v)", tail, n, files, len(got), len(want), u.result)
		}
	})
}

func TestOverlongLinesAreSkipped(t *testing.T) {
	root := t.TempDir()
	write(t, logDir(t, root)+"/0.log", entry(0, "stdout", "F", "a")+strings.Repeat("z", 3*maxEntry)+"\n"+entry(1, "stdout", "F", "b"))
	for tail, want := range map[int64]string{1: "b\n", 2: "a\nb\n", 5: "a\nb\n"} {
		if got, result := readLog(t, newWorld(), root, v1.PodLogOptions{TailLines: &tail}); got != want {
			t.Errorf("tail %d: got %q, %v", tail, got, result)
		}
	}
}

func FuzzParseLine(f *testing.F) {
	f.Add([]byte(entry(0, "stdout", "F", "hello")))
	f.Add([]byte(entry(0, "stderr", "P:x", "")))
	f.Add([]byte("2016-10-06T00:17:09.669794202Z stdout F"))
	f.Add([]byte(" \n"))
	f.Fuzz(func(t *testing.T, raw []byte) {
		l, err := parseLine(raw)
		if err != nil {
			return
		}
		if s := string(l.stream); s != "stdout" && s != "stderr" {
			t.Errorf("stream %q", s)
		}
		if !strings.HasSuffix(strings.TrimSuffix(string(raw), "\n"), string(l.content)) {
			t.Errorf("content %q is not the end of %q", l.content, raw)
		}
		l.before(began)
	})
}
