package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/moby/buildkit/frontend/dockerfile/instructions"
	"github.com/moby/buildkit/frontend/dockerfile/linter"
	"github.com/moby/buildkit/frontend/dockerfile/parser"
)

// dockerfile is the repository's: a stage that builds, and one that is the image.
type dockerfile struct {
	build, image instructions.Stage
}

func readDockerfile(source string) (dockerfile, error) {
	text, err := os.ReadFile(filepath.Join(source, "Dockerfile"))
	if err != nil {
		return dockerfile{}, err
	}
	parsed, err := parser.Parse(bytes.NewReader(text))
	if err != nil {
		return dockerfile{}, err
	}
	stages, _, err := instructions.Parse(parsed.AST, &linter.Linter{})
	if err != nil {
		return dockerfile{}, err
	}
	if len(stages) != 2 || stages[1].BaseName != "scratch" {
		return dockerfile{}, errors.New("Dockerfile: wanted: a stage that builds, and one from scratch") //nolint:staticcheck // a file's name
	}
	return dockerfile{stages[0], stages[1]}, nil
}

// outside is where the build stage leaves what the image takes.
const outside = "/out/"

// run runs the steps of the build stage in the repository, for one platform. What they
// would leave in /out, they leave in the folder out.
func (d dockerfile) run(ctx context.Context, source, goos, goarch, out string) error {
	for _, c := range d.build.Commands {
		step, ok := c.(*instructions.RunCommand)
		if !ok {
			continue // the sources are here already
		}
		text := strings.ReplaceAll(strings.Join(step.CmdLine, " "), outside, out+"/")
		cmd := exec.CommandContext(ctx, "sh", "-ec", text) //nolint:gosec // the repository's own Dockerfile
		cmd.Dir = source
		cmd.Env = append(os.Environ(), "TARGETOS="+goos, "TARGETARCH="+goarch)
		if said, err := cmd.CombinedOutput(); err != nil {
			return fmt.Errorf("RUN %s: %w\n%s", text, err, said)
		}
	}
	return nil
}

// files are what the image stage copies from the build, by their paths in the image.
func (d dockerfile) files(out string) (map[string]string, error) {
	files := map[string]string{}
	for _, c := range d.image.Commands {
		step, ok := c.(*instructions.CopyCommand)
		if !ok {
			continue
		}
		if step.From != d.build.Name || len(step.SourcePaths) != 1 || !strings.HasPrefix(step.SourcePaths[0], outside) {
			return nil, fmt.Errorf("COPY %v: wanted: one file of the build's %s", step.SourcePaths, outside)
		}
		files[strings.TrimPrefix(step.DestPath, "/")] = filepath.Join(out, strings.TrimPrefix(step.SourcePaths[0], outside))
	}
	return files, nil
}

// config is the configuration that the image stage sets.
func (d dockerfile) config() v1.Config {
	config := v1.Config{Labels: map[string]string{}, ExposedPorts: map[string]struct{}{}}
	for _, c := range d.image.Commands {
		switch step := c.(type) {
		case *instructions.LabelCommand:
			for _, l := range step.Labels {
				config.Labels[l.Key] = strings.Trim(l.Value, `"`)
			}
		case *instructions.UserCommand:
			config.User = step.User
		case *instructions.ExposeCommand:
			for _, port := range step.Ports {
				config.ExposedPorts[port+"/tcp"] = struct{}{}
			}
		case *instructions.EntrypointCommand:
			config.Entrypoint = slices.Clone(step.CmdLine)
		case *instructions.CmdCommand:
			config.Cmd = slices.Clone(step.CmdLine)
		}
	}
	return config
}
