// Command image builds the image of the Dockerfile without a container engine. It runs
// the Dockerfile's own build steps on this machine, once for each platform. It writes
// the last stage as an OCI layout, with a bill of materials beside each image.
package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"strings"
	"syscall"
)

func main() {
	source := flag.String("source", "../..", "the repository")
	out := flag.String("out", "../../bin/image", "the OCI layout to write; what is there is replaced")
	platforms := flag.String("platforms", "linux/amd64,linux/arm64", "for which, separated by commas")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	built, err := Build(ctx, *source, strings.Split(*platforms, ","))
	if err == nil {
		err = built.Write(*out)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "image:", err)
		os.Exit(1) //nolint:gocritic // nothing is left to stop
	}
	for _, p := range built.Platforms {
		fmt.Printf("%s: %.1f MB, %.1f MB to pull\n", p.Name, float64(p.Unpacked)/1e6, float64(p.Packed)/1e6)
	}
	fmt.Println(*out)
}
