package hl7v2

import (
	"bytes"
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"tombolo/connector"
)

var update = flag.Bool("update", false, "rewrite the golden files in testdata")

// trust is the feed that the fixtures come from.
var trust = Options{Source: "rx1-pas", Organisation: "RX1", Now: func() time.Time { return time.Date(2026, 3, 2, 12, 0, 0, 0, time.UTC) }}

func deliveries(data []byte, o Options) []connector.Delivery {
	var out []connector.Delivery
	for d := range Deliveries(data, o) {
		out = append(out, d)
	}
	return out
}

// Each testdata/x.hl7 gives what testdata/x.json says. Rewrite with -update, and read the difference.
func TestMessagesGiveWhatTheirGoldenFilesSay(t *testing.T) {
	files, err := filepath.Glob("testdata/*.hl7")
	if err != nil || len(files) == 0 {
		t.Fatalf("no fixtures: %v", err)
	}
	for _, file := range files {
		t.Run(strings.TrimSuffix(filepath.Base(file), ".hl7"), func(t *testing.T) {
			data, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			made := deliveries(data, trust)
			for _, d := range made {
				if d.Rejected == nil {
					checkDelivery(t, file, d)
				}
			}
			got := Golden(made)
			goldenFile := strings.TrimSuffix(file, ".hl7") + ".json"
			if *update {
				if err := os.WriteFile(goldenFile, got, 0o644); err != nil {
					t.Fatal(err)
				}
			}
			want, err := os.ReadFile(goldenFile)
			if err != nil {
				t.Fatal(err)
			}
			if !bytes.Equal(got, want) {
				t.Errorf("%s differs from %s:\n%s", file, goldenFile, got)
			}
			if again := Golden(deliveries(data, trust)); !bytes.Equal(again, got) {
				t.Errorf("%s: the same bytes gave something else the second time", file)
			}
		})
	}
}
