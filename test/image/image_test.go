package main

import (
	"archive/tar"
	"bytes"
	"debug/elf"
	"errors"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	cdx "github.com/CycloneDX/cyclonedx-go"
	"github.com/google/go-containerregistry/pkg/v1/layout"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/validate"
	"github.com/stretchr/testify/require"
)

var machines = map[string]elf.Machine{"linux/amd64": elf.EM_X86_64, "linux/arm64": elf.EM_AARCH64}

// The image is what the Dockerfile says, for both platforms: one static binary that
// runs without root, and what it was built from.
func TestImage(t *testing.T) {
	built, err := Build(t.Context(), "../..", []string{"linux/amd64", "linux/arm64"})
	require.NoError(t, err)
	for _, p := range built.Platforms {
		t.Logf("%s: %.1f MB, %.1f MB to pull", p.Name, float64(p.Unpacked)/1e6, float64(p.Packed)/1e6)
		require.Less(t, p.Packed, int64(40_000_000), "what a node has to pull")

		config, err := p.Image.ConfigFile()
		require.NoError(t, err)
		require.Equal(t, "65532:65532", config.Config.User)
		require.Equal(t, []string{"/inference-scaler"}, config.Config.Entrypoint)
		require.Equal(t, []string{"serve"}, config.Config.Cmd)
		require.Equal(t, "Apache-2.0", config.Config.Labels["org.opencontainers.image.licenses"])
		require.Contains(t, config.Config.ExposedPorts, "9090/tcp")

		files := unpack(t, mutate.Extract(p.Image))
		require.Len(t, files, 1, "nothing but the binary")
		binary := files["inference-scaler"]
		program, err := elf.NewFile(bytes.NewReader(binary))
		require.NoError(t, err)
		require.Equal(t, machines[p.Name], program.Machine)
		libraries, err := program.ImportedLibraries()
		require.NoError(t, err)
		require.Empty(t, libraries, "static")
		for _, segment := range program.Progs {
			require.NotEqual(t, elf.PT_INTERP, segment.Type, "static")
		}

		var bom cdx.BOM
		require.NoError(t, cdx.NewBOMDecoder(bytes.NewReader(p.BOM), cdx.BOMFileFormatJSON).Decode(&bom))
		require.Equal(t, "github.com/inference-scaler/inference-scaler", bom.Metadata.Component.Name)
		var names []string
		for _, c := range *bom.Components {
			names = append(names, c.Name)
		}
		require.Subset(t, names, []string{"std", "google.golang.org/grpc", "k8s.io/client-go", "github.com/kedacore/keda/v2"})

		if p.Name == runtime.GOOS+"/"+runtime.GOARCH {
			file := filepath.Join(t.TempDir(), "inference-scaler")
			require.NoError(t, os.WriteFile(file, binary, 0o700))
			said, err := exec.CommandContext(t.Context(), file, "--version").CombinedOutput()
			require.NoError(t, err)
			require.Contains(t, string(said), "inference-scaler version")
		}
	}

	dir := filepath.Join(t.TempDir(), "layout")
	require.NoError(t, built.Write(dir))
	index, err := layout.ImageIndexFromPath(dir)
	require.NoError(t, err)
	require.NoError(t, validate.Index(index, validate.Fast))
	manifest, err := index.IndexManifest()
	require.NoError(t, err)
	require.Len(t, manifest.Manifests, 4, "an image and its bill of materials for each platform")

	again, err := Build(t.Context(), "../..", []string{"linux/amd64"})
	require.NoError(t, err)
	first, err := built.Platforms[0].Image.Digest()
	require.NoError(t, err)
	second, err := again.Platforms[0].Image.Digest()
	require.NoError(t, err)
	require.Equal(t, first, second, "the same sources make the same image")
}

func unpack(t *testing.T, archive io.ReadCloser) map[string][]byte {
	defer archive.Close()
	files := map[string][]byte{}
	r := tar.NewReader(archive)
	for {
		head, err := r.Next()
		if errors.Is(err, io.EOF) {
			return files
		}
		require.NoError(t, err)
		require.Equal(t, int64(0o555), head.Mode)
		text, err := io.ReadAll(r)
		require.NoError(t, err)
		files[strings.TrimPrefix(head.Name, "/")] = text
	}
}
