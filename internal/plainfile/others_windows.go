package plainfile

// hasOthers: the rights of files are not those that Mode shows.
const hasOthers = false
