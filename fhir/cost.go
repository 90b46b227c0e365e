package fhir

// MaxValues is how many JSON values one document from outside may hold. A resource has one for every 20 to 30 bytes; a document of little but
// brackets and commas would take thirty times its size in memory.
const MaxValues = 1_000_000

// CheckCost refuses a JSON document whose tree would be out of proportion to its text. It says nothing of whether the JSON is valid.
func CheckCost(data []byte) error {
	if CountValues(data) > MaxValues {
		return Errorf(TooCostly, "the JSON holds more than %d values; send it in parts", MaxValues)
	}
	return nil
}

// CountValues says about how many values a JSON document holds. It counts in one pass, without memory.
func CountValues(data []byte) int {
	values, inString := 1, false
	for i := 0; i < len(data); i++ {
		switch c := data[i]; {
		case inString && c == '\\':
			i++
		case c == '"':
			inString = !inString
		case inString:
		case c == ',' || c == '[' || c == '{':
			values++
		}
	}
	return values
}
