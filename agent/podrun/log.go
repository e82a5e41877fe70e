package podrun

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
)

// logDir is the pod's folder of logs: <logDir>/<namespace>_<name>_<uid>.
func (w *worker) logDir(namespace, name string) string {
	return filepath.Join(w.r.cfg.LogDir, namespace+"_"+name+"_"+string(w.uid))
}

func (w *worker) logPath(container string, attempt int) string {
	return filepath.Join(w.logDir(w.pod.Namespace, w.pod.Name), container, strconv.Itoa(attempt)+".log")
}

// removeAttemptLogs removes the log of one attempt with its rotated parts, and the folders that are empty then.
func (w *worker) removeAttemptLogs(container string, attempt int) error {
	dirs, err := filepath.Glob(filepath.Join(w.r.cfg.LogDir, "*_"+string(w.uid), container))
	if err != nil {
		return fmt.Errorf("find logs: %w", err)
	}
	for _, dir := range dirs {
		base := strconv.Itoa(attempt) + ".log"
		parts, err := filepath.Glob(filepath.Join(dir, base+".*"))
		if err != nil {
			return fmt.Errorf("find logs: %w", err)
		}
		for _, path := range append(parts, filepath.Join(dir, base)) {
			if err := os.Remove(path); err != nil && !errors.Is(err, os.ErrNotExist) {
				return fmt.Errorf("remove log: %w", err)
			}
		}
		_, _ = os.Remove(dir), os.Remove(filepath.Dir(dir)) // they stay where other logs are in them
	}
	return nil
}

// removeLogs removes all logs of a pod that is gone.
func (w *worker) removeLogs() error {
	dirs, err := filepath.Glob(filepath.Join(w.r.cfg.LogDir, "*_"+string(w.uid)))
	if err != nil {
		return fmt.Errorf("find logs: %w", err)
	}
	for _, dir := range dirs {
		if err := os.RemoveAll(dir); err != nil {
			return fmt.Errorf("remove logs: %w", err)
		}
	}
	return nil
}
