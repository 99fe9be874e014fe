package sequin
