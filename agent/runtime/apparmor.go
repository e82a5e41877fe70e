package runtime

import (
	"bytes"
	"context"
	_ "embed" // of the profile
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"

	v1 "k8s.io/api/core/v1"

	"coracle/internal/fault"
)

// appArmorProfile is loaded where the machine has AppArmor and no profile of a container runtime.
//
//go:embed default.apparmor
var appArmorProfile []byte

// The profiles that RuntimeDefault may come to: that of container runtimes where it is loaded, else our own.
const (
	criAppArmor = "cri-containerd.apparmor.d"
	ownAppArmor = "coracle-default"
)

// loadedProfiles is where the kernel lists them, a line "NAME (MODE)" each.
const loadedProfiles = "/sys/kernel/security/apparmor/profiles"

// AppArmor says whether this machine has AppArmor enabled, and a program that loads profiles.
func AppArmor() (enabled, parser bool) {
	data, err := os.ReadFile("/sys/module/apparmor/parameters/enabled")
	return err == nil && strings.HasPrefix(string(data), "Y"), findProgram("apparmor_parser") != ""
}

// AppArmor reports whether this machine enforces AppArmor profiles.
func (r *Runtime) AppArmor() bool { return r.host.AppArmor }

// appArmorFor is the profile for a container; empty: none.
func (r *Runtime) appArmorFor(ctx context.Context, sc *v1.SecurityContext) (string, error) {
	wanted := sc.AppArmorProfile
	if isTrue(sc.Privileged) || wanted != nil && wanted.Type == v1.AppArmorProfileTypeUnconfined {
		return "", nil
	}
	if !r.host.AppArmor {
		if wanted != nil {
			return "", fault.Invalid("an AppArmor profile is asked for, but AppArmor is not enabled on this node")
		}
		return "", nil
	}
	list, err := os.ReadFile(loadedProfiles)
	if err != nil {
		return "", fmt.Errorf("read AppArmor profiles: %w", err)
	}
	if wanted != nil && wanted.Type == v1.AppArmorProfileTypeLocalhost {
		name := ""
		if wanted.LocalhostProfile != nil {
			name = *wanted.LocalhostProfile
		}
		if !listsProfile(list, name) {
			return "", fault.As(fault.ErrUnavailable, fmt.Errorf("AppArmor profile %q is not loaded on this node", name))
		}
		return name, nil
	}
	for _, name := range []string{criAppArmor, ownAppArmor} {
		if listsProfile(list, name) {
			return name, nil
		}
	}
	err = loadOwnProfile(ctx)
	switch {
	case err == nil:
		return ownAppArmor, nil
	case wanted == nil:
		// As container runtimes do: what nobody asked for must not keep a pod from running.
		r.log.Warn("no AppArmor profile for containers", "err", err)
		return "", nil
	}
	return "", err
}

func listsProfile(list []byte, name string) bool {
	for line := range strings.Lines(string(list)) {
		if have, _, ok := strings.Cut(line, " ("); ok && have == name && name != "" {
			return true
		}
	}
	return false
}

func loadOwnProfile(ctx context.Context) error {
	parser := findProgram("apparmor_parser")
	if parser == "" {
		return fault.As(fault.ErrUnavailable, errors.New("load AppArmor profile: apparmor_parser is not installed (apt-get install apparmor)"))
	}
	ctx, cancel := context.WithTimeout(ctx, askTimeout)
	defer cancel()
	cmd := exec.CommandContext(ctx, parser, "--replace", "--skip-cache", "--base", "/etc/apparmor.d")
	cmd.Stdin = bytes.NewReader(appArmorProfile)
	if out, err := cmd.CombinedOutput(); err != nil {
		return fault.As(fault.ErrUnavailable, fmt.Errorf("load AppArmor profile: %w: %s", err, bytes.TrimSpace(out)))
	}
	return nil
}
