package fhir

// Nearest is the word among known that is most likely meant by a mistyped one, or "" if none is near: at most two letters
// wrong, missing, extra or swapped, and fewer in short words; else the one that begins alike ("allergy", allergies).
func Nearest(word string, known []string) string {
	best, least := "", 3
	if len(word) <= 4 {
		least = 2
	}
	if len(word) > 64 { // nobody mistypes that
		return ""
	}
	for _, k := range known {
		if d := typos(word, k, least+1); d < least || d == least && best != "" && k < best {
			best, least = k, d
		}
	}
	if best == "" {
		best = alike(word, known)
	}
	return best
}

// alike is the word that has its beginning in common with a mistyped one: all of the shorter, or most of the longer.
func alike(word string, known []string) string {
	best, most := "", 2
	for _, k := range known {
		n := 0
		for n < len(k) && n < len(word) && lower(k[n]) == lower(word[n]) {
			n++
		}
		if n > most && (n == min(len(k), len(word)) || n >= 5 && 3*n >= 2*max(len(k), len(word))) {
			best, most = k, n
		}
	}
	return best
}

// typos is the number of single-letter mistakes between two words (optimal string alignment); at least limit if there are many.
func typos(a, b string, limit int) int {
	if d := len(a) - len(b); d >= limit || -d >= limit {
		return limit
	}
	prev2, prev, cur := make([]int, len(b)+1), make([]int, len(b)+1), make([]int, len(b)+1)
	for j := range prev {
		prev[j] = j
	}
	for i := 1; i <= len(a); i++ {
		cur[0] = i
		for j := 1; j <= len(b); j++ {
			cost := 1
			if lower(a[i-1]) == lower(b[j-1]) {
				cost = 0
			}
			cur[j] = min(prev[j]+1, cur[j-1]+1, prev[j-1]+cost)
			if i > 1 && j > 1 && a[i-1] == b[j-2] && a[i-2] == b[j-1] {
				cur[j] = min(cur[j], prev2[j-2]+1)
			}
		}
		prev2, prev, cur = prev, cur, prev2
	}
	return prev[len(b)]
}

func lower(c byte) byte {
	if 'A' <= c && c <= 'Z' {
		return c + 'a' - 'A'
	}
	return c
}
