"""One program a public data set: official files in, an ltjax data set out."""
