// Command debian unpacks a package of Debian's into the cache of the e2e tests, where it
// is not there yet, and prints the folder.
package main

import (
	"context"
	"fmt"
	"os"

	"github.com/inference-scaler/inference-scaler/test/e2e/build"
)

func main() {
	if len(os.Args) != 2 {
		fmt.Fprintln(os.Stderr, "usage: debian PACKAGE")
		os.Exit(2)
	}
	root, err := build.Debian(context.Background(), os.Stderr, os.Args[1])
	if err != nil {
		fmt.Fprintln(os.Stderr, "debian:", err)
		os.Exit(1)
	}
	fmt.Println(root)
}
