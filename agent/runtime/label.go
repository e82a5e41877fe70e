package runtime

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/opencontainers/runtime-spec/specs-go"
	v1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"

	"coracle/agent/logwriter"
	"coracle/agent/pod"
)

// Labels of a container's record in containerd. They are read back by agents of other
// versions: never change a meaning, add a name instead.
const (
	labelUID         = "coracle/pod.uid"
	labelNamespace   = "coracle/pod.namespace"
	labelPod         = "coracle/pod.name"
	labelName        = "coracle/container.name"
	labelKind        = "coracle/container.kind"
	labelAttempt     = "coracle/container.attempt"
	labelFingerprint = "coracle/container.fingerprint"
	labelImageID     = "coracle/image.id"
	labelStopSignal  = "coracle/stop-signal"
	labelBoot        = "coracle/boot"        // boot id at creation: a task of another boot is gone
	labelIO          = "coracle/io"          // logwriter.Registration
	labelTermination = "coracle/termination" // host path of the termination message
	labelStdinOnce   = "coracle/stdin-once"
	labelShares      = "coracle/shares-processes" // killed as a group: its first process is not PID 1
	labelUser        = "coracle/user"             // UID:GID:GROUP,GROUP… of the first process
	labelResources   = "coracle/resources"        // CPU and memory as v1.ResourceRequirements: what it was given last
	labelExit        = "coracle/exit"             // exitRecord, once it is known

	// kindInit is the first process of a pod that shares its process namespace.
	kindInit = "pod-init"
	// labelGCRoot keeps a snapshot from containerd's garbage collector until its container's record is there.
	labelGCRoot = "containerd.io/gc.root"
	// maxLabel is what containerd allows for name and value together.
	maxLabel = 4096
)

// ContainerID is the id in containerd of one attempt: the same arguments give the same id.
func ContainerID(uid types.UID, name string, attempt int) string {
	id := shortUID(uid) + "-" + name + "-" + strconv.Itoa(attempt)
	// containerd wants at most 76 characters and no two separators in a row.
	if len(id) > 76 || strings.Contains(id, "--") {
		sum := sha256.Sum256([]byte(name))
		id = shortUID(uid) + "-" + hex.EncodeToString(sum[:8]) + "-" + strconv.Itoa(attempt)
	}
	return id
}

// shortUID is eight characters of a random uid, or of the hash of one that is not random.
func shortUID(uid types.UID) string {
	s := string(uid)
	if len(s) == 36 && s[8] == '-' && isHex(s[:8]) {
		return s[:8]
	}
	sum := sha256.Sum256([]byte(s))
	return hex.EncodeToString(sum[:4])
}

func isHex(s string) bool {
	return strings.Trim(s, "0123456789abcdefABCDEF") == ""
}

// exitRecord is how a container ended, as its label keeps it.
type exitRecord struct {
	Code     int       `json:"code"`
	OOM      bool      `json:"oom,omitempty"`
	Started  time.Time `json:"started,omitzero"`
	Finished time.Time `json:"finished,omitzero"`
	Reason   string    `json:"reason,omitempty"`
	Message  string    `json:"message,omitempty"`
}

func (e exitRecord) label() (string, error) {
	if most := maxLabel - 1024; len(e.Message) > most {
		e.Message = strings.ToValidUTF8(e.Message[:most], "")
	}
	data, err := json.Marshal(e)
	if err != nil {
		return "", fmt.Errorf("write exit record: %w", err)
	}
	if len(data)+len(labelExit) > maxLabel { // escapes made it longer
		e.Message = strings.ToValidUTF8(e.Message[:256], "")
		return e.label()
	}
	return string(data), nil
}

func parseExit(label string) (exitRecord, error) {
	var e exitRecord
	if err := json.Unmarshal([]byte(label), &e); err != nil {
		return exitRecord{}, fmt.Errorf("parse exit record: %w", err)
	}
	return e, nil
}

func userLabel(u specs.User) string {
	groups := make([]string, 0, len(u.AdditionalGids))
	for _, g := range u.AdditionalGids {
		groups = append(groups, strconv.FormatUint(uint64(g), 10))
	}
	return fmt.Sprintf("%d:%d:%s", u.UID, u.GID, strings.Join(groups, ","))
}

// parseUser reads a userLabel; nil for a container that was made before there was one.
func parseUser(label string) *v1.LinuxContainerUser {
	parts := strings.SplitN(label, ":", 3)
	if len(parts) != 3 {
		return nil
	}
	uid, ok1 := parseID(parts[0])
	gid, ok2 := parseID(parts[1])
	if !ok1 || !ok2 {
		return nil
	}
	u := &v1.LinuxContainerUser{UID: int64(uid), GID: int64(gid)}
	for _, g := range strings.Split(parts[2], ",") {
		if id, ok := parseID(g); ok {
			u.SupplementalGroups = append(u.SupplementalGroups, int64(id))
		}
	}
	return u
}

func parseIO(label string) (logwriter.Registration, error) {
	var reg logwriter.Registration
	if err := json.Unmarshal([]byte(label), &reg); err != nil {
		return reg, fmt.Errorf("parse log registration: %w", err)
	}
	return reg, nil
}

// labelsOf are the labels of a new container.
func labelsOf(c pod.ContainerSpec, imageID, stopSignal, boot string, reg logwriter.Registration) (map[string]string, error) {
	data, err := json.Marshal(reg)
	if err != nil {
		return nil, fmt.Errorf("write log registration: %w", err)
	}
	labels := map[string]string{
		labelUID: string(c.PodUID), labelNamespace: c.PodNamespace, labelPod: c.PodName,
		labelName: c.Name, labelKind: string(c.Kind), labelAttempt: strconv.Itoa(c.Attempt),
		labelFingerprint: c.Fingerprint, labelImageID: imageID, labelStopSignal: stopSignal,
		labelBoot: boot, labelIO: string(data),
	}
	resources, err := resourcesLabel(c.Resources)
	if err != nil {
		return nil, err
	}
	if resources != "" {
		labels[labelResources] = resources
	}
	if c.TerminationMessageHostPath != "" {
		labels[labelTermination] = c.TerminationMessageHostPath
	}
	if c.StdinOnce {
		labels[labelStdinOnce] = "true"
	}
	if c.HostPID || c.ShareProcessNamespace || c.TargetContainer != "" {
		labels[labelShares] = "true"
	}
	return labels, nil
}
