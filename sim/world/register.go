package world

import (
	_ "embed"
	"encoding/csv"
	"os"
	"path/filepath"
	"strings"

	"tombolo/sim/cast"
)

// registerMapping says what the register's columns mean. It is a mapping file like any other, and lies beside the region file.
//
//go:embed register.yaml
var registerMapping []byte

// writeRegister writes the register: who objects to sharing, and whose address must be withheld.
func writeRegister(drop string, people []cast.Person) error {
	var b strings.Builder
	w := csv.NewWriter(&b)
	_ = w.Write([]string{"entry", "nhs_number", "surname", "forenames", "date_of_birth", "restricted", "objects"})
	for _, p := range people {
		if !p.Objects && !p.Restricted || p.NHS == "" {
			continue
		}
		_ = w.Write([]string{"R-" + p.LocalID("qsv-register"), p.NHS, p.Family, strings.Join(p.Given, " "), p.Born, yes(p.Restricted), yes(p.Objects)})
	}
	w.Flush()
	if err := w.Error(); err != nil {
		return err
	}
	part := filepath.Join(drop, "register.csv.part")
	if err := os.WriteFile(part, []byte(b.String()), 0o600); err != nil {
		return err
	}
	return os.Rename(part, strings.TrimSuffix(part, ".part"))
}

func yes(b bool) string {
	if b {
		return "yes"
	}
	return "no"
}
