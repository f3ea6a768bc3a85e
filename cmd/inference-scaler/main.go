// Command inference-scaler is a KEDA external scaler for GPU inference fleets.
// All wiring is here: one file for each subcommand.
package main

import (
	"context"
	"errors"
	"os"
	"os/signal"
	"runtime/debug"
	"syscall"

	"github.com/spf13/cobra"
	_ "golang.org/x/crypto/x509roots/fallback" // authorities, where the machine has none, as in the image
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err := root().ExecuteContext(ctx)
	stop()
	if err != nil {
		code := exit{code: 1}
		errors.As(err, &code)
		os.Exit(code.code)
	}
}

func root() *cobra.Command {
	cmd := &cobra.Command{
		Use:           "inference-scaler",
		Short:         "A KEDA external scaler that scales inference fleets by what the servers themselves say",
		Version:       version(),
		SilenceUsage:  true,
		SilenceErrors: false,
	}
	cmd.AddCommand(serveCommand(), demoCommand(), whyCommand(), checkCommand())
	return cmd
}

// version is what the build knows of itself.
func version() string {
	if info, ok := debug.ReadBuildInfo(); ok && info.Main.Version != "" {
		return info.Main.Version
	}
	return "(devel)"
}
