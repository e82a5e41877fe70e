package pod

import (
	"errors"
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	v1 "k8s.io/api/core/v1"
	"k8s.io/utils/ptr"
)

var update = flag.Bool("update", false, "rewrite the traces in testdata")

// rule is a restart rule for one exit code.
func rule(action v1.ContainerRestartRuleAction, code int32) v1.ContainerRestartRule {
	return v1.ContainerRestartRule{Action: action, ExitCodes: &v1.ContainerRestartRuleOnExitCodes{
		Operator: v1.ContainerRestartRuleOnExitCodesOpIn, Values: []int32{code},
	}}
}

// each says how every attempt behaves.
func each(b behaviour) func(int) behaviour { return func(int) behaviour { return b } }

// traces are whole lives of pods. Their golden files read as the story of what was done and reported.
var traces = []struct {
	name string
	live func() *world
}{
	{"simple-run", func() *world {
		w := newWorld(newPod(container("web")))
		w.run(time.Hour)
		return w
	}},
	{"crash-loop", func() *world {
		w := newWorld(newPod(container("web")))
		w.behave["web"] = func(n int) behaviour {
			if n == 5 { // runs long enough for its back-off to begin anew
				return behaviour{exitAfter: 11 * time.Minute, exitCode: 1}
			}
			return behaviour{exitAfter: time.Second, exitCode: 1}
		}
		w.run(20 * time.Minute)
		return w
	}},
	{"image-volume", func() *world {
		a, b := container("reader"), container("plain")
		a.VolumeMounts = []v1.VolumeMount{{Name: "content", MountPath: "/content"}}
		p := newPod(a, b)
		p.Spec.Volumes = []v1.Volume{{Name: "content", VolumeSource: v1.VolumeSource{
			Image: &v1.ImageVolumeSource{Reference: "content:2", PullPolicy: v1.PullAlways},
		}}}
		w := newWorld(p)
		w.pulls["volume content"] = func(n int) error {
			if n < 2 {
				return errors.New("registry says no")
			}
			return nil
		}
		w.run(time.Minute)
		w.pulls["volume content"] = func(int) error { return errors.New("the registry is away") }
		w.reboot()
		w.run(2 * time.Minute)
		w.delete(30)
		w.run(3 * time.Minute)
		return w
	}},
	{"back-off-cap", func() *world {
		w := newWorld(newPod(container("web")))
		w.behave["web"] = each(behaviour{exitAfter: time.Second, exitCode: 2})
		w.run(25 * time.Minute)
		return w
	}},
	{"oom", func() *world {
		w := newWorld(newPod(container("web")))
		w.behave["web"] = func(n int) behaviour {
			if n == 0 {
				return behaviour{exitAfter: time.Second, exitCode: 137, oom: true}
			}
			return behaviour{}
		}
		w.run(time.Minute)
		return w
	}},
	{"job-succeeds", func() *world {
		p := newPod(container("a"), container("b"))
		p.Spec.RestartPolicy = v1.RestartPolicyNever
		w := newWorld(p)
		w.behave["a"] = each(behaviour{exitAfter: time.Second})
		w.behave["b"] = each(behaviour{exitAfter: 2 * time.Second})
		w.run(time.Minute)
		w.delete(30)
		w.run(2 * time.Minute)
		return w
	}},
	{"job-fails", func() *world {
		p := newPod(container("a"))
		p.Spec.RestartPolicy = v1.RestartPolicyNever
		w := newWorld(p)
		w.behave["a"] = each(behaviour{exitAfter: time.Second, exitCode: 3})
		w.run(time.Minute)
		return w
	}},
	{"on-failure", func() *world {
		p := newPod(container("a"))
		p.Spec.RestartPolicy = v1.RestartPolicyOnFailure
		w := newWorld(p)
		w.behave["a"] = func(n int) behaviour { return behaviour{exitAfter: time.Second, exitCode: max(0, 2-n)} }
		w.run(time.Minute)
		return w
	}},
	{"command-does-not-exist", func() *world {
		w := newWorld(newPod(container("web")))
		w.behave["web"] = each(behaviour{startFails: `exec: "nope": executable file not found in $PATH`})
		w.run(30 * time.Second)
		return w
	}},
	{"init-containers", func() *world {
		p := newPod(container("web"))
		p.Spec.InitContainers = []v1.Container{container("one"), container("two")}
		w := newWorld(p)
		w.behave["one"] = each(behaviour{exitAfter: time.Second})
		w.behave["two"] = func(n int) behaviour { return behaviour{exitAfter: time.Second, exitCode: max(0, 2-n)} }
		w.run(time.Minute)
		return w
	}},
	{"init-fails-for-good", func() *world {
		p := newPod(container("web"))
		p.Spec.RestartPolicy = v1.RestartPolicyNever
		p.Spec.InitContainers = []v1.Container{container("one")}
		w := newWorld(p)
		w.behave["one"] = each(behaviour{exitAfter: time.Second, exitCode: 1})
		w.run(time.Minute)
		return w
	}},
	{"sidecars", func() *world {
		p := newPod(container("web"))
		p.Spec.RestartPolicy = v1.RestartPolicyNever
		p.Spec.InitContainers = []v1.Container{sidecar("proxy"), container("setup"), sidecar("logs")}
		w := newWorld(p)
		w.behave["setup"] = each(behaviour{exitAfter: time.Second})
		w.behave["web"] = each(behaviour{exitAfter: time.Minute})
		w.behave["proxy"] = func(n int) behaviour {
			if n == 0 {
				return behaviour{exitAfter: 30 * time.Second, exitCode: 1}
			}
			return behaviour{termAfter: 2 * time.Second}
		}
		w.behave["logs"] = each(behaviour{termAfter: time.Second})
		w.run(5 * time.Minute)
		return w
	}},
	{"delete-with-grace", func() *world {
		p := newPod(container("web"))
		p.Spec.InitContainers = []v1.Container{sidecar("proxy")}
		w := newWorld(p)
		w.behave["web"] = each(behaviour{termAfter: 5 * time.Second})
		w.run(10 * time.Second)
		w.delete(30)
		w.run(time.Minute)
		return w
	}},
	{"delete-ignored-sigterm", func() *world {
		w := newWorld(newPod(container("web")))
		w.behave["web"] = each(behaviour{ignoreTerm: true})
		w.run(10 * time.Second)
		w.delete(30)
		w.run(time.Minute)
		return w
	}},
	{"delete-twice", func() *world {
		w := newWorld(newPod(container("web")))
		w.behave["web"] = each(behaviour{ignoreTerm: true})
		w.run(10 * time.Second)
		w.delete(300)
		w.run(20 * time.Second)
		w.delete(5)
		w.run(time.Minute)
		return w
	}},
	{"delete-with-hooks", func() *world {
		c := container("web")
		c.Lifecycle = &v1.Lifecycle{PostStart: &v1.LifecycleHandler{}, PreStop: &v1.LifecycleHandler{}}
		w := newWorld(newPod(c))
		w.behave["web"] = each(behaviour{hookTakes: 3 * time.Second})
		w.run(10 * time.Second)
		w.delete(30)
		w.run(time.Minute)
		return w
	}},
	{"post-start-fails", func() *world {
		c := container("web")
		c.Lifecycle = &v1.Lifecycle{PostStart: &v1.LifecycleHandler{}}
		w := newWorld(newPod(c))
		w.behave["web"] = func(n int) behaviour { return behaviour{hookFails: n == 0} }
		w.run(time.Minute)
		return w
	}},
	{"force-delete", func() *world {
		w := newWorld(newPod(container("web"), container("other")))
		w.run(10 * time.Second)
		w.say("(no longer assigned)")
		w.removed = true
		w.run(20 * time.Second)
		return w
	}},
	{"orphan", func() *world {
		w := newWorld(newPod(container("web")))
		w.run(10 * time.Second)
		w.restartAgent()
		w.pod, w.removed = nil, true
		w.run(20 * time.Second)
		return w
	}},
	{"image-pull-fails", func() *world {
		w := newWorld(newPod(container("web")))
		w.pulls["web"] = func(n int) error {
			if n < 3 {
				return errors.New("not found")
			}
			return nil
		}
		w.run(2 * time.Minute)
		return w
	}},
	{"config-missing", func() *world {
		w := newWorld(newPod(container("web")))
		w.creates["web"] = errors.New(`configmap "settings" not found`)
		w.run(15 * time.Second)
		delete(w.creates, "web")
		w.run(time.Minute)
		return w
	}},
	{"reboot", func() *world {
		p := newPod(container("web"))
		p.Spec.InitContainers = []v1.Container{container("setup")}
		w := newWorld(p)
		w.behave["setup"] = each(behaviour{exitAfter: time.Second})
		w.run(20 * time.Minute)
		w.reboot()
		w.run(21 * time.Minute)
		return w
	}},
	{"reboot-again-and-again", func() *world {
		w := newWorld(newPod(container("web"), container("crashing")))
		w.behave["crashing"] = each(behaviour{exitAfter: time.Second, exitCode: 1})
		for i := range 4 {
			w.run(time.Duration(i+1) * 20 * time.Second)
			w.reboot()
		}
		w.run(2 * time.Minute)
		return w
	}},
	{"reboot-job", func() *world {
		p := newPod(container("web"))
		p.Spec.RestartPolicy = v1.RestartPolicyNever
		w := newWorld(p)
		w.run(time.Minute)
		w.reboot()
		w.run(2 * time.Minute)
		return w
	}},
	{"exited-while-agent-down", func() *world {
		w := newWorld(newPod(container("web")))
		w.run(time.Minute)
		w.exit("c-web-0a", 1, false)
		w.advance(w.now.Add(time.Hour))
		w.restartAgent()
		w.run(2 * time.Hour)
		return w
	}},
	{"deadline", func() *world {
		p := newPod(container("web"))
		p.Spec.ActiveDeadlineSeconds = ptr.To[int64](60)
		w := newWorld(p)
		w.run(5 * time.Minute)
		return w
	}},
	{"image-changed", func() *world {
		w := newWorld(newPod(container("web"), container("other")))
		w.run(time.Minute)
		w.say("(user sets web's image)")
		w.pod = w.pod.DeepCopy()
		w.pod.Spec.Containers[0].Image = "web:2"
		w.pod.Generation++
		w.run(2 * time.Minute)
		return w
	}},
	{"resize", func() *world {
		restarted := withSize("restarted", "500m/1Gi", "1/2Gi")
		restarted.ResizePolicy = []v1.ContainerResizePolicy{{ResourceName: v1.ResourceMemory, RestartPolicy: v1.RestartContainer}}
		w := newWorld(newPod(withSize("web", "500m/1Gi", "1/2Gi"), restarted))
		w.room = roomOf("4", "8Gi", "1", "1Gi")
		w.run(time.Minute)
		w.ask("web", "2/1Gi", "2/2Gi")
		w.run(2 * time.Minute)
		w.ask("restarted", "500m/2Gi", "1/2Gi")
		w.run(3 * time.Minute)
		w.ask("web", "3/1Gi", "3/2Gi")
		w.run(4 * time.Minute)
		w.say("(another pod goes)")
		w.room = roomOf("4", "8Gi", "0", "0")
		w.run(5 * time.Minute)
		w.ask("web", "16/1Gi", "16/2Gi")
		w.run(6 * time.Minute)
		w.ask("web", "500m/1Gi", "1/1Gi")
		w.run(7 * time.Minute)
		return w
	}},
	{"probes", func() *world {
		c := container("web")
		c.StartupProbe, c.ReadinessProbe, c.LivenessProbe = &v1.Probe{}, &v1.Probe{}, &v1.Probe{}
		w := newWorld(newPod(c))
		w.run(5 * time.Second)
		web := func() *Live { return &w.o.Containers[len(w.o.Containers)-1].Live }
		w.say("(startup succeeds)")
		web().Startup = Success
		w.run(10 * time.Second)
		w.say("(readiness succeeds)")
		web().Readiness = Success
		w.run(15 * time.Second)
		w.restartAgent()
		w.run(20 * time.Second)
		w.say("(readiness fails)")
		web().Readiness = Failure
		w.run(25 * time.Second)
		w.say("(liveness fails)")
		web().Liveness = Failure
		w.run(time.Minute)
		return w
	}},
	{"delete-hook-takes-all", func() *world {
		c := container("web")
		c.Lifecycle = &v1.Lifecycle{PreStop: &v1.LifecycleHandler{}}
		w := newWorld(newPod(c))
		w.behave["web"] = each(behaviour{hookTakes: time.Hour, termAfter: time.Second})
		w.run(10 * time.Second)
		w.delete(30)
		w.run(time.Minute)
		return w
	}},
	{"restart-rules", func() *world {
		p := newPod(container("retried"), container("ended"))
		p.Spec.RestartPolicy = v1.RestartPolicyAlways
		p.Spec.Containers[0].RestartPolicy = ptr.To(v1.ContainerRestartPolicyNever)
		p.Spec.Containers[0].RestartPolicyRules = []v1.ContainerRestartRule{rule(v1.ContainerRestartRuleActionRestart, 42)}
		p.Spec.Containers[1].RestartPolicy = ptr.To(v1.ContainerRestartPolicyOnFailure)
		w := newWorld(p)
		w.behave["retried"] = func(n int) behaviour {
			if n == 0 {
				return behaviour{exitAfter: time.Second, exitCode: 42}
			}
			return behaviour{exitAfter: 20 * time.Second, exitCode: 3}
		}
		w.behave["ended"] = each(behaviour{exitAfter: 2 * time.Second})
		w.run(time.Minute)
		return w
	}},
	{"restart-all", func() *world {
		p := newPod(container("web"), container("done"))
		p.Spec.RestartPolicy = v1.RestartPolicyNever
		watcher := sidecar("watcher")
		watcher.RestartPolicyRules = []v1.ContainerRestartRule{rule(v1.ContainerRestartRuleActionRestartAllContainers, 88)}
		p.Spec.Containers[0].Lifecycle = &v1.Lifecycle{PreStop: &v1.LifecycleHandler{}}
		p.Spec.InitContainers = []v1.Container{container("setup"), watcher}
		w := newWorld(p)
		w.behave["setup"] = each(behaviour{exitAfter: time.Second})
		w.behave["done"] = each(behaviour{exitAfter: time.Second})
		w.behave["web"] = each(behaviour{ignoreTerm: true, exitAfter: 2 * time.Minute})
		w.behave["watcher"] = func(n int) behaviour {
			if n == 0 {
				return behaviour{exitAfter: time.Minute, exitCode: 88}
			}
			return behaviour{}
		}
		w.run(10 * time.Minute)
		return w
	}},
	{"restart-all-again-and-again", func() *world {
		p := newPod(container("web"), container("other"))
		p.Spec.RestartPolicy = v1.RestartPolicyNever
		p.Spec.Containers[0].RestartPolicy = ptr.To(v1.ContainerRestartPolicyNever)
		p.Spec.Containers[0].RestartPolicyRules = []v1.ContainerRestartRule{rule(v1.ContainerRestartRuleActionRestartAllContainers, 42)}
		w := newWorld(p)
		w.behave["web"] = func(n int) behaviour {
			return behaviour{exitAfter: time.Second, exitCode: map[bool]int{true: 42}[n < 4]}
		}
		w.behave["other"] = each(behaviour{exitAfter: 50 * time.Second})
		w.run(5 * time.Minute)
		return w
	}},
	{"ephemeral", func() *world {
		w := newWorld(newPod(container("web")))
		w.run(time.Minute)
		w.say("(user runs kubectl debug)")
		w.pod = w.pod.DeepCopy()
		w.pod.Spec.EphemeralContainers = []v1.EphemeralContainer{{EphemeralContainerCommon: v1.EphemeralContainerCommon{Name: "debug", Image: "busybox"}}}
		w.behave["debug"] = each(behaviour{exitAfter: 5 * time.Second})
		w.run(2 * time.Minute)
		return w
	}},
}

func TestTraces(t *testing.T) {
	for _, tc := range traces {
		t.Run(tc.name, func(t *testing.T) {
			w := tc.live()
			for _, b := range w.broken {
				t.Error(b)
			}
			got := strings.Join(w.trace, "\n") + "\n"
			path := filepath.Join("testdata", tc.name+".txt")
			if *update {
				if err := os.MkdirAll("testdata", 0o755); err != nil {
					t.Fatal(err)
				}
				if err := os.WriteFile(path, []byte(got), 0o644); err != nil {
					t.Fatal(err)
				}
				return
			}
			want, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(string(want), got); diff != "" {
				t.Errorf("trace differs (-want +got), run with -update if it should:\n%s", diff)
			}
		})
	}
}
