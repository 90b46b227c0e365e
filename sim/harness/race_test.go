//go:build race

package harness

// underRace: everything takes ten times as long, so a short run is shorter.
const underRace = true
