package main

import (
	"bytes"
	"debug/buildinfo"
	"fmt"

	cdx "github.com/CycloneDX/cyclonedx-go"
)

// billOfMaterials lists what a Go binary was built from, as recorded in itself: the
// modules with their versions and sums, and the Go release.
func billOfMaterials(binary string) ([]byte, error) {
	info, err := buildinfo.ReadFile(binary)
	if err != nil {
		return nil, err
	}
	component := func(path, version, sum string) cdx.Component {
		c := cdx.Component{Type: cdx.ComponentTypeLibrary, Name: path, Version: version, PackageURL: fmt.Sprintf("pkg:golang/%s@%s", path, version)}
		c.BOMRef = c.PackageURL
		if sum != "" {
			c.Properties = &[]cdx.Property{{Name: "go:sum", Value: sum}}
		}
		return c
	}
	main := component(info.Main.Path, info.Main.Version, "")
	main.Type = cdx.ComponentTypeApplication
	all := []cdx.Component{component("std", info.GoVersion[len("go"):], "")}
	for _, m := range info.Deps {
		all = append(all, component(m.Path, m.Version, m.Sum))
	}
	bom := cdx.NewBOM()
	bom.Metadata = &cdx.Metadata{Component: &main}
	bom.Components = &all
	var out bytes.Buffer
	enc := cdx.NewBOMEncoder(&out, cdx.BOMFileFormatJSON)
	enc.SetPretty(true)
	if err := enc.Encode(bom); err != nil {
		return nil, err
	}
	return out.Bytes(), nil
}
