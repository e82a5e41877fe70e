// Command coracle-image builds the demo image from the demo program and pushes it to a registry:
//
//	coracle-image bin/coracle-demo 127.0.0.1:5000/demo:1
package main

import (
	"context"
	"fmt"
	"os"
	"time"

	"coracle/internal/testimage"
)

func main() {
	if len(os.Args) != 3 {
		fmt.Fprintln(os.Stderr, "usage: coracle-image PROGRAM REGISTRY/NAME:TAG")
		os.Exit(2)
	}
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	spec := testimage.Spec{
		Files:      map[string]testimage.File{"/demo": {Source: os.Args[1]}, "/tmp": {Dir: true, Mode: 0o1777}},
		Entrypoint: []string{"/demo"},
		User:       "65534",
	}
	if err := testimage.Push(ctx, os.Args[2], spec); err != nil {
		fmt.Fprintln(os.Stderr, "coracle-image:", err)
		os.Exit(1)
	}
}
