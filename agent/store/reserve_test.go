package store

import (
	"os"
	"path/filepath"
	"syscall"
	"testing"
)

// The room is claimed once, the file is good with it, and opening it again does not write.
func TestReserve(t *testing.T) {
	path := filepath.Join(t.TempDir(), "store.db")
	var before os.FileInfo
	for range 2 {
		s, err := Open(path, quiet())
		if err != nil {
			t.Fatal(err)
		}
		if err := s.PutFact("b", "k", []byte("v")); err != nil {
			t.Fatal(err)
		}
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
		info, err := os.Stat(path)
		if err != nil {
			t.Fatal(err)
		}
		if blocks := info.Sys().(*syscall.Stat_t).Blocks * 512; blocks < reserved {
			t.Errorf("the file has %d bytes of the disk, want %d", blocks, reserved)
		}
		if before != nil && !info.ModTime().Equal(before.ModTime()) {
			t.Error("opening the file again wrote to it")
		}
		before = info
	}
}
