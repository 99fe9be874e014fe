package jscan

// flatEnd returns the end of the object that begins at i, if it is written without white space and its members are strings
// without escapes, plain numbers, booleans and nulls. It returns 0 for any other object, also for one that is not valid. Most rows
// of tables are such objects, and a Skip of other objects takes three times as long.
func flatEnd(data []byte, i int) int {
	i++
	if i < len(data) && data[i] == '}' {
		return i + 1
	}
	for {
		if i = simpleStringEnd(data, i); i == 0 || i == len(data) || data[i] != ':' {
			return 0
		}
		if i = simpleEnd(data, i+1); i == 0 || i == len(data) {
			return 0
		}
		switch data[i] {
		case ',':
			i++
		case '}':
			return i + 1
		default:
			return 0
		}
	}
}

// simpleStringEnd returns the end of the string without escapes that begins at i, or 0.
func simpleStringEnd(data []byte, i int) int {
	if i == len(data) || data[i] != '"' {
		return 0
	}
	if i = inertEnd(data, i+1); i == len(data) || data[i] != '"' {
		return 0
	}
	return i + 1
}

// simpleEnd returns the end of the value that begins at i, or 0 if it is not of the kinds of flatEnd.
func simpleEnd(data []byte, i int) int {
	if i == len(data) {
		return 0
	}
	word := ""
	switch data[i] {
	case '"':
		return simpleStringEnd(data, i)
	case 't':
		word = "true"
	case 'f':
		word = "false"
	case 'n':
		word = "null"
	default:
		return simpleNumberEnd(data, i)
	}
	if end := i + len(word); end <= len(data) && string(data[i:end]) == word {
		return end
	}
	return 0
}

// simpleNumberEnd returns the end of the number without exponent that begins at i, or 0.
func simpleNumberEnd(data []byte, i int) int {
	if data[i] == '-' {
		i++
	}
	whole := i
	i = digitsFrom(data, i)
	if i == whole || data[whole] == '0' && i > whole+1 {
		return 0
	}
	if i == len(data) || data[i] != '.' {
		return i
	}
	fraction := i + 1
	if i = digitsFrom(data, fraction); i == fraction {
		return 0
	}
	return i
}

// digitsFrom returns the first index from i on that is not a digit.
func digitsFrom(data []byte, i int) int {
	for i < len(data) && data[i]-'0' <= 9 {
		i++
	}
	return i
}
