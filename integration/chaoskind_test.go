package integration

import (
	"fmt"
	"strconv"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"sigs.k8s.io/yaml"
)

// chaosKind is one kind of pod that the chaos test makes.
type chaosKind struct {
	name string
	// runs are its containers that run on from their first start until the pod is deleted, whatever is killed around them.
	runs []string
	// ends is the phase that the pod comes to by itself; empty where it runs on or never gets that far.
	ends corev1.PodPhase
	// waits is why its container waits in the end.
	waits []string
	spec  string
}

// ready tells whether such pods become Ready and stay so.
func (k chaosKind) ready() bool { return len(k.runs) > 0 }

// once tells whether none of its containers is ever started again.
func (k chaosKind) once() bool {
	return k.ends != "" && k.name != "retry" && k.name != "renewed" && k.name != "deadline"
}

// chaosKinds are all of them. IMAGE, MISSING, SLEEPER (runs until told to end) and HOSTDIR are put in.
var chaosKinds = []chaosKind{
	{name: "plain", runs: []string{"main"}, spec: `
terminationGracePeriodSeconds: 2
containers: [{name: main, image: IMAGE, command: [sh, -c, SLEEPER]}]`},
	{name: "init", runs: []string{"main"}, spec: `
terminationGracePeriodSeconds: 2
volumes: [{name: v, emptyDir: {}}]
initContainers:
- {name: one, image: IMAGE, command: [touch, /v/one], volumeMounts: [{name: v, mountPath: /v}]}
- {name: two, image: IMAGE, command: [sh, -c, "cat /v/one && sleep 1"], volumeMounts: [{name: v, mountPath: /v}]}
containers: [{name: main, image: IMAGE, command: [sh, -c, SLEEPER]}]`},
	{name: "sidecar", runs: []string{"side", "main"}, spec: `
terminationGracePeriodSeconds: 3
initContainers: [{name: side, image: IMAGE, restartPolicy: Always, command: [sh, -c, SLEEPER]}]
containers: [{name: main, image: IMAGE, command: [sh, -c, SLEEPER]}]`},
	{name: "sidecar-job", ends: corev1.PodSucceeded, spec: `
restartPolicy: Never
terminationGracePeriodSeconds: 3
initContainers: [{name: side, image: IMAGE, restartPolicy: Always, command: [sh, -c, SLEEPER]}]
containers: [{name: main, image: IMAGE, command: [sleep, "3"]}]`},
	{name: "job", ends: corev1.PodSucceeded, spec: `
restartPolicy: Never
containers: [{name: main, image: IMAGE, command: [sh, -c, "echo work; sleep 2"]}]`},
	{name: "failure", ends: corev1.PodFailed, spec: `
restartPolicy: Never
containers: [{name: main, image: IMAGE, command: [sh, -c, "sleep 1; exit 7"]}]`},
	{name: "retry", ends: corev1.PodSucceeded, spec: `
restartPolicy: OnFailure
volumes: [{name: v, emptyDir: {}}]
containers: [{name: main, image: IMAGE, command: [sh, -c, "echo run >> /v/runs; [ $(wc -l < /v/runs) -ge 2 ]"], volumeMounts: [{name: v, mountPath: /v}]}]`},
	{name: "renewed", ends: corev1.PodSucceeded, spec: `
restartPolicy: Never
volumes: [{name: v, emptyDir: {}}]
initContainers: [{name: setup, image: IMAGE, command: [sh, -c, "echo setup >> /v/log"], volumeMounts: [{name: v, mountPath: /v}]}]
containers:
- name: main
  image: IMAGE
  restartPolicy: Never
  restartPolicyRules: [{action: RestartAllContainers, exitCodes: {operator: In, values: [88]}}]
  command: [sh, -c, "sleep 1; [ $(wc -l < /v/log) -ge 2 ] || exit 88"]
  volumeMounts: [{name: v, mountPath: /v}]`},
	{name: "crash", spec: `
containers: [{name: main, image: IMAGE, command: [sh, -c, "echo boo; exit 1"]}]`},
	{name: "half", spec: `
terminationGracePeriodSeconds: 2
containers:
- {name: bad, image: IMAGE, command: ["false"]}
- {name: main, image: IMAGE, command: [sh, -c, SLEEPER]}`},
	{name: "missing", waits: []string{"ErrImagePull", "ImagePullBackOff"}, spec: `
containers: [{name: main, image: MISSING}]`},
	{name: "deadline", ends: corev1.PodFailed, spec: `
activeDeadlineSeconds: 6
terminationGracePeriodSeconds: 1
containers: [{name: main, image: IMAGE, command: [sh, -c, SLEEPER]}]`},
	{name: "probed", runs: []string{"main"}, spec: `
terminationGracePeriodSeconds: 2
containers:
- name: main
  image: IMAGE
  command: [sh, -c, "mkdir /www; echo ok > /www/index.html; touch /up; exec httpd -f -h /www -p 8080"]
  startupProbe: {exec: {command: [cat, /up]}, periodSeconds: 1, failureThreshold: 300, timeoutSeconds: 30}
  readinessProbe: {httpGet: {port: 8080}, periodSeconds: 1, timeoutSeconds: 30}
  livenessProbe: {exec: {command: [cat, /up]}, periodSeconds: 1, failureThreshold: 10, timeoutSeconds: 30}`},
	{name: "dying", spec: `
containers:
- name: main
  image: IMAGE
  command: [sh, -c, "trap '' TERM; touch /up; sleep 3; rm /up; while :; do sleep 1; done"]
  livenessProbe: {exec: {command: [cat, /up]}, periodSeconds: 1, failureThreshold: 3, timeoutSeconds: 30, terminationGracePeriodSeconds: 1}`},
	{name: "hooked", spec: `
terminationGracePeriodSeconds: 5
containers:
- name: main
  image: IMAGE
  command: [sh, -c, SLEEPER]
  lifecycle:
    postStart: {exec: {command: [sh, -c, "sleep 1; touch /tmp-post"]}}
    preStop: {exec: {command: [sh, -c, "sleep 1; touch /tmp-pre"]}}`},
	{name: "stubborn", runs: []string{"main"}, spec: `
terminationGracePeriodSeconds: 3
containers: [{name: main, image: IMAGE, command: [sh, -c, "trap '' TERM; while :; do sleep 1; done"]}]`},
	{name: "volumes", runs: []string{"main"}, spec: `
terminationGracePeriodSeconds: 2
securityContext: {fsGroup: 1001}
volumes:
- {name: disk, emptyDir: {}}
- {name: memory, emptyDir: {medium: Memory, sizeLimit: 4Mi}}
- {name: config, configMap: {name: chaos}}
- {name: secret, secret: {secretName: chaos}}
- {name: labels, downwardAPI: {items: [{path: labels, fieldRef: {fieldPath: metadata.labels}}]}}
- {name: host, hostPath: {path: HOSTDIR, type: DirectoryOrCreate}}
- {name: image, image: {reference: IMAGE}}
- name: all
  projected: {sources: [{configMap: {name: chaos}}, {secret: {name: chaos}}, {serviceAccountToken: {path: token, expirationSeconds: 600}}]}
containers:
- name: main
  image: IMAGE
  command: [sh, -c, SLEEPER]
  volumeMounts:
  - {name: disk, mountPath: /disk}
  - {name: disk, mountPath: /sub, subPath: a/b}
  - {name: memory, mountPath: /memory}
  - {name: config, mountPath: /config}
  - {name: config, mountPath: /one/key, subPath: key}
  - {name: secret, mountPath: /secret}
  - {name: labels, mountPath: /labels}
  - {name: host, mountPath: /host}
  - {name: image, mountPath: /image}
  - {name: all, mountPath: /all}`},
	{name: "hostnet", runs: []string{"main"}, spec: `
hostNetwork: true
terminationGracePeriodSeconds: 2
containers: [{name: main, image: IMAGE, command: [sh, -c, SLEEPER]}]`},
	{name: "sharing", runs: []string{"main", "other"}, spec: `
shareProcessNamespace: true
terminationGracePeriodSeconds: 2
containers:
- {name: main, image: IMAGE, command: [sh, -c, SLEEPER]}
- {name: other, image: IMAGE, command: [sh, -c, SLEEPER]}`},
	{name: "users", runs: []string{"main"}, spec: `
hostUsers: false
terminationGracePeriodSeconds: 2
volumes: [{name: v, emptyDir: {}}]
containers: [{name: main, image: IMAGE, command: [sh, -c, SLEEPER], volumeMounts: [{name: v, mountPath: /v}]}]`},
	{name: "limited", runs: []string{"main"}, spec: `
terminationGracePeriodSeconds: 2
containers:
- name: main
  image: IMAGE
  command: [sh, -c, SLEEPER]
  resources: {requests: {cpu: 10m, memory: 16Mi}, limits: {cpu: 500m, memory: 32Mi}}`},
}

func chaosKindOf(name string) chaosKind {
	for _, k := range chaosKinds {
		if k.name == name {
			return k
		}
	}
	panic("the chaos test has no kind of pod " + name)
}

// podSpec is the kind's spec on this cluster.
func (k chaosKind) podSpec(c *cluster) (corev1.PodSpec, error) {
	text := strings.NewReplacer("IMAGE", c.image, "MISSING", c.registry+"/nobody/knows:1", "SLEEPER", strconv.Quote(sleeper),
		"HOSTDIR", c.dir+"/chaos-host").Replace(k.spec)
	var spec corev1.PodSpec
	if err := yaml.UnmarshalStrict([]byte(text), &spec); err != nil {
		return spec, fmt.Errorf("spec of kind %s: %w", k.name, err)
	}
	return spec, nil
}
