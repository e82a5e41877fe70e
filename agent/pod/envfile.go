package pod

import (
	"errors"
	"fmt"
	"io/fs"
	"strings"
)

// parseEnvFile reads the files that fileKeyRef names. Their format is Kubernetes' own, a small part of a shell's:
//
//	# a comment
//	NAME='a value, literally, on
//	as many lines as it likes'
//
// Blanks before a name and around = do not count. The last of several of one name holds.
func parseEnvFile(data string) (map[string]string, error) {
	out := map[string]string{}
	for line := 1; data != ""; {
		data = strings.TrimLeft(data, " \t\r")
		switch {
		case strings.HasPrefix(data, "\n"):
			data, line = data[1:], line+1
			continue
		case strings.HasPrefix(data, "#"):
			_, data, _ = strings.Cut(data, "\n")
			line++
			continue
		case data == "":
			continue
		}
		name, rest, ok := strings.Cut(data, "=")
		name = strings.TrimRight(name, " \t")
		if !ok || name == "" || strings.ContainsAny(name, "\n'# \t") {
			return nil, fmt.Errorf("line %d is neither a comment nor NAME='value'", line)
		}
		rest = strings.TrimLeft(rest, " \t")
		if !strings.HasPrefix(rest, "'") {
			return nil, fmt.Errorf("line %d: the value of %s is not in single quotes", line, name)
		}
		value, after, ok := strings.Cut(rest[1:], "'")
		if !ok {
			return nil, fmt.Errorf("line %d: the value of %s has no closing quote", line, name)
		}
		trailing, next, _ := strings.Cut(after, "\n")
		if t := strings.TrimSpace(trailing); t != "" && !strings.HasPrefix(t, "#") {
			return nil, fmt.Errorf("line %d: something follows the value of %s", line, name)
		}
		out[name] = value
		line += strings.Count(value, "\n") + 1
		data = next
	}
	return out, nil
}

// envFileKey gives one key of a file in a volume; ok is false where it is optional and missing.
func envFileKey(volume, path, key string, optional bool, src Sources) (value string, ok bool, err error) {
	what := fmt.Sprintf("environment variable key %q of file %q in volume %q", key, path, volume)
	host, mounted := src.Volumes[volume]
	if !mounted || src.EnvFile == nil {
		return "", false, configErrorf("couldn't find %s: the pod does not mount that volume", what)
	}
	data, err := src.EnvFile(host, path)
	switch {
	case errors.Is(err, fs.ErrNotExist) && optional:
		return "", false, nil
	case err != nil:
		return "", false, configErrorf("couldn't find %s: %s", what, err)
	}
	all, err := parseEnvFile(string(data))
	if err != nil {
		return "", false, configErrorf("couldn't read %s: %s", what, err)
	}
	if value, ok := all[key]; ok {
		return value, true, nil
	}
	if optional {
		return "", false, nil
	}
	return "", false, configErrorf("couldn't find %s", what)
}
