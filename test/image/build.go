package main

import (
	"archive/tar"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"slices"
	"strings"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/layout"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/partial"
	"github.com/google/go-containerregistry/pkg/v1/static"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
	"github.com/google/go-containerregistry/pkg/v1/types"
)

// Built is an image for some platforms, with a bill of materials for each.
type Built struct {
	Index     v1.ImageIndex
	Platforms []Platform
}

// Platform is what was built for one.
type Platform struct {
	Name             string
	Image            v1.Image
	BOM              []byte // CycloneDX, JSON
	Unpacked, Packed int64  // bytes: on a node, and through the network
}

// Build builds the image for each platform, such as linux/arm64.
func Build(ctx context.Context, source string, platforms []string) (*Built, error) {
	d, err := readDockerfile(source)
	if err != nil {
		return nil, err
	}
	built := &Built{Index: mutate.IndexMediaType(empty.Index, types.OCIImageIndex)}
	for _, name := range platforms {
		p, err := d.platform(ctx, source, name)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", name, err)
		}
		built.Platforms = append(built.Platforms, p)
		if built.Index, err = p.addTo(built.Index); err != nil {
			return nil, fmt.Errorf("%s: %w", name, err)
		}
	}
	return built, nil
}

func (d dockerfile) platform(ctx context.Context, source, name string) (Platform, error) {
	goos, goarch, ok := strings.Cut(name, "/")
	if !ok {
		return Platform{}, errors.New("wanted: a platform such as linux/amd64")
	}
	out, err := os.MkdirTemp("", "image")
	if err != nil {
		return Platform{}, err
	}
	defer func() { _ = os.RemoveAll(out) }() // of the machine's temporary files
	if err := d.run(ctx, source, goos, goarch, out); err != nil {
		return Platform{}, err
	}
	files, err := d.files(out)
	if err != nil {
		return Platform{}, err
	}
	p := Platform{Name: name}
	archive, err := pack(files)
	if err != nil {
		return Platform{}, err
	}
	p.Unpacked = int64(len(archive))
	layer, err := tarball.LayerFromOpener(func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(archive)), nil },
		tarball.WithMediaType(types.OCILayer))
	if err != nil {
		return Platform{}, err
	}
	if p.Packed, err = layer.Size(); err != nil {
		return Platform{}, err
	}
	for _, file := range files {
		if p.BOM, err = billOfMaterials(file); err != nil {
			return Platform{}, err
		}
	}
	p.Image, err = image(layer, v1.ConfigFile{OS: goos, Architecture: goarch, Config: d.config(), RootFS: v1.RootFS{Type: "layers"}})
	return p, err
}

// image of one layer. Nothing in it tells when or where it was made, so that the same
// sources make the same image.
func image(layer v1.Layer, config v1.ConfigFile) (v1.Image, error) {
	base := mutate.ConfigMediaType(mutate.MediaType(empty.Image, types.OCIManifestSchema1), types.OCIConfigJSON)
	img, err := mutate.ConfigFile(base, &config)
	if err != nil {
		return nil, err
	}
	return mutate.AppendLayers(img, layer)
}

// pack makes a layer of the files, which all may read and run.
func pack(files map[string]string) ([]byte, error) {
	var out bytes.Buffer
	w := tar.NewWriter(&out)
	for _, name := range slices.Sorted(maps.Keys(files)) {
		text, err := os.ReadFile(files[name])
		if err != nil {
			return nil, err
		}
		head := &tar.Header{Name: name, Mode: 0o555, Size: int64(len(text)), ModTime: time.Unix(0, 0), Format: tar.FormatPAX}
		if err := w.WriteHeader(head); err != nil {
			return nil, err
		}
		if _, err := w.Write(text); err != nil {
			return nil, err
		}
	}
	if err := w.Close(); err != nil {
		return nil, err
	}
	return out.Bytes(), nil
}

// bomType is what registries know a bill of materials by.
const bomType = "application/vnd.cyclonedx+json"

// addTo adds the image to an index, and its bill of materials as what refers to it.
func (p Platform) addTo(index v1.ImageIndex) (v1.ImageIndex, error) {
	config, err := p.Image.ConfigFile()
	if err != nil {
		return nil, err
	}
	subject, err := partial.Descriptor(p.Image)
	if err != nil {
		return nil, err
	}
	bom, err := mutate.AppendLayers(mutate.ConfigMediaType(mutate.MediaType(empty.Image, types.OCIManifestSchema1), bomType), static.NewLayer(p.BOM, bomType))
	if err != nil {
		return nil, err
	}
	referrer, ok := mutate.Subject(bom, *subject).(v1.Image)
	if !ok {
		return nil, errors.New("a referrer that is no image")
	}
	return mutate.AppendManifests(index,
		mutate.IndexAddendum{Add: p.Image, Descriptor: v1.Descriptor{Platform: &v1.Platform{OS: config.OS, Architecture: config.Architecture}}},
		mutate.IndexAddendum{Add: referrer, Descriptor: v1.Descriptor{ArtifactType: bomType, Platform: &v1.Platform{OS: "unknown", Architecture: "unknown"}}},
	), nil
}

// Write writes the OCI layout, in place of what is there.
func (b *Built) Write(dir string) error {
	if err := os.RemoveAll(dir); err != nil {
		return err
	}
	_, err := layout.Write(dir, b.Index)
	return err
}
