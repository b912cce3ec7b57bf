module read-secret

go 1.22
