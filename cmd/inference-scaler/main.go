// Command inference-scaler is a KEDA external scaler for GPU inference fleets.
// It contains the flags and the wiring, one file per subcommand.
package main

import (
	"context"
	"errors"
	"os"
	"os/signal"
	"runtime/debug"
	"syscall"

	"github.com/spf13/cobra"
	_ "golang.org/x/crypto/x509roots/fallback" // root certificates for systems without any, such as the image
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
		Short:         "A KEDA external scaler for inference fleets, which reads the metrics of their servers",
		Version:       version(),
		SilenceUsage:  true,
		SilenceErrors: false,
	}
	cmd.AddCommand(serveCommand(), demoCommand(), whyCommand(), checkCommand())
	return cmd
}

// version returns the version in the build information.
func version() string {
	if info, ok := debug.ReadBuildInfo(); ok && info.Main.Version != "" {
		return info.Main.Version
	}
	return "(devel)"
}
