package main

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"strings"
)

// debian is where a package of Debian's is unpacked, without being installed.
func (b *bench) debian(name string) (root string, err error) {
	cmd := exec.CommandContext(b, "go", "-C", "../e2e", "run", "./cmd/debian", name)
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, os.Stderr
	if err := cmd.Run(); err != nil {
		return "", fmt.Errorf("package %s of Debian: %w", name, err)
	}
	return strings.TrimSpace(out.String()), nil
}
