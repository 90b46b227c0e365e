package main

import (
	"cmp"
	"encoding/json"
	"errors"
	"runtime/debug"

	"github.com/spf13/cobra"
)

func sbomCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "sbom",
		Short: "List what this program is built of (CycloneDX)",
		Long: "Writes a software bill of materials in CycloneDX 1.5 JSON: the Go release and every module that is in this very binary,\n" +
			"with the version and the hash under which it was taken, as the compiler wrote them into it.",
		Example: "  tombolo sbom > tombolo.cdx.json",
		Args:    cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			info, ok := debug.ReadBuildInfo()
			if !ok {
				return errors.New("this binary was built without the list of its modules: build it with go build")
			}
			e := json.NewEncoder(c.OutOrStdout())
			e.SetIndent("", "  ")
			return e.Encode(sbom(info))
		},
	}
}

type sbomPart struct {
	Type    string     `json:"type"`
	Name    string     `json:"name"`
	Version string     `json:"version,omitempty"`
	PURL    string     `json:"purl,omitempty"`
	Hashes  []sbomHash `json:"properties,omitempty"`
}

// A sbomHash is the module's hash as go.sum has it, which is not one of CycloneDX's own kinds.
type sbomHash struct {
	Name  string `json:"name"`
	Value string `json:"value"`
}

type sbomDocument struct {
	Format   string `json:"bomFormat"`
	Spec     string `json:"specVersion"`
	Version  int    `json:"version"`
	Metadata struct {
		Component sbomPart `json:"component"`
	} `json:"metadata"`
	Components []sbomPart `json:"components"`
}

// sbom is the bill of materials of a binary. https://cyclonedx.org/docs/1.5/json/
func sbom(info *debug.BuildInfo) sbomDocument {
	d := sbomDocument{Format: "CycloneDX", Spec: "1.5", Version: 1}
	d.Metadata.Component = sbomPart{Type: "application", Name: info.Main.Path, Version: version}
	d.Components = append(d.Components, sbomPart{Type: "library", Name: "std", Version: info.GoVersion, PURL: "pkg:golang/std@" + info.GoVersion})
	for _, m := range info.Deps {
		if m.Replace != nil {
			m = m.Replace
		}
		p := sbomPart{Type: "library", Name: m.Path, Version: m.Version, PURL: "pkg:golang/" + m.Path + "@" + cmp.Or(m.Version, "unknown")}
		if m.Sum != "" {
			p.Hashes = []sbomHash{{"go.sum", m.Sum}}
		}
		d.Components = append(d.Components, p)
	}
	return d
}
