package match

import (
	"strings"
	"unicode/utf8"
)

// Likeness is the Jaro-Winkler similarity of two folded words, 0 to 1: what letters they share near the same place, with a bonus for
// beginning alike (Winkler 1990).
func Likeness(a, b string) float64 {
	if a == b {
		return 1
	}
	if ascii(a) && ascii(b) {
		return jaroWinkler([]byte(a), []byte(b))
	}
	return jaroWinkler([]rune(a), []rune(b))
}

func ascii(s string) bool {
	for i := range len(s) {
		if s[i] >= utf8.RuneSelf {
			return false
		}
	}
	return true
}

func jaroWinkler[T byte | rune](a, b []T) float64 {
	if len(a) == 0 || len(b) == 0 || len(a) > 64 || len(b) > 64 {
		return 0
	}
	reach := max(max(len(a), len(b))/2-1, 0)
	var inA, inB uint64 // which letters have their partner
	matches := 0
	for i, c := range a {
		for j := max(0, i-reach); j < min(len(b), i+reach+1); j++ {
			if inB&(1<<j) == 0 && b[j] == c {
				inA, inB = inA|1<<i, inB|1<<j
				matches++
				break
			}
		}
	}
	if matches == 0 {
		return 0
	}
	swaps, j := 0, 0
	for i := range a {
		if inA&(1<<i) == 0 {
			continue
		}
		for inB&(1<<j) == 0 {
			j++
		}
		if a[i] != b[j] {
			swaps++
		}
		j++
	}
	m := float64(matches)
	jaro := (m/float64(len(a)) + m/float64(len(b)) + (m-float64(swaps/2))/m) / 3
	same := 0
	for same < min(len(a), len(b), 4) && a[same] == b[same] {
		same++
	}
	return jaro + float64(same)*0.1*(1-jaro)
}

// slip reports whether one slip of the finger makes one word of the other: a letter more, less, other, or two changed about.
func slip(a, b string) bool {
	if len(a) > len(b) {
		a, b = b, a
	}
	if len(b)-len(a) > 1 {
		return false
	}
	i := 0
	for i < len(a) && a[i] == b[i] {
		i++
	}
	switch {
	case len(a) < len(b):
		return a[i:] == b[i+1:]
	case i == len(a):
		return false // the same
	}
	return a[i+1:] == b[i+1:] || i+1 < len(a) && a[i] == b[i+1] && a[i+1] == b[i] && a[i+2:] == b[i+2:]
}

// sound is the Soundex code of a word: its first letter and three digits for the consonants after it.
func sound(word string) string {
	const digits = "01230120022455012623010202" // a to z
	out := [4]byte{'0', '0', '0', '0'}
	n := 0
	var last byte = '0'
	for i := range len(word) {
		c := word[i]
		if c < 'a' || c > 'z' {
			continue
		}
		d := digits[c-'a']
		switch {
		case n == 0:
			out[0] = c
			n++
		case d != '0' && d != last:
			out[n] = d
			n++
		}
		if c != 'h' && c != 'w' {
			last = d
		}
		if n == 4 {
			break
		}
	}
	if n == 0 { // not in the Latin alphabet: its first letters
		return prefix(word, 3)
	}
	return string(out[:])
}

func prefix(s string, letters int) string {
	for i := range s {
		if letters == 0 {
			return s[:i]
		}
		letters--
	}
	return s
}

// shared is how much two sorted lists of words have in common: those in both, of those in either.
func shared(a, b []string) float64 {
	both, i, j := 0, 0, 0
	for i < len(a) && j < len(b) {
		switch c := strings.Compare(a[i], b[j]); {
		case c == 0:
			both, i, j = both+1, i+1, j+1
		case c < 0:
			i++
		default:
			j++
		}
	}
	return float64(both) / float64(len(a)+len(b)-both)
}
