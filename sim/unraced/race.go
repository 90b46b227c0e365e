//go:build race

package unraced

// Raced: this program was built with the race detector, under which everything takes about ten times as long.
const Raced = true
